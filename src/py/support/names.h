/*
 * names.h -- the interned strings of the module, one line each: st->names.send is "send".
 *
 * Add a line where the name sorts; TA_NAME2 when the C identifier differs from the text.
 */
#ifndef TA_PY_SUPPORT_NAMES_H
#define TA_PY_SUPPORT_NAMES_H

#define TA_NAMES(TA_NAME, TA_NAME2)                                                                \
    TA_NAME(DELETE)                                                                                \
    TA_NAME(Future)                                                                                \
    TA_NAME(GET)                                                                                   \
    TA_NAME(HEAD)                                                                                  \
    TA_NAME(POST)                                                                                  \
    TA_NAME(PUT)                                                                                   \
    TA_NAME(Task)                                                                                  \
    TA_NAME(accessed)                                                                              \
    TA_NAME(add_done_callback)                                                                     \
    TA_NAME(ag_code)                                                                               \
    TA_NAME(ag_frame)                                                                              \
    TA_NAME(app)                                                                                   \
    TA_NAME(app_root_path)                                                                         \
    TA_NAME(args)                                                                                  \
    TA_NAME(as_iterator)                                                                           \
    TA_NAME(asgi)                                                                                  \
    TA_NAME(background)                                                                            \
    TA_NAME(body)                                                                                  \
    TA_NAME(body_iterator)                                                                         \
    TA_NAME(buffer_updated)                                                                        \
    TA_NAME(bytes)                                                                                 \
    TA_NAME(call_exception_handler)                                                                \
    TA_NAME(call_soon)                                                                             \
    TA_NAME(call_soon_threadsafe)                                                                  \
    TA_NAME(cancel)                                                                                \
    TA_NAME(cancelled)                                                                             \
    TA_NAME(charset)                                                                               \
    TA_NAME(client)                                                                                \
    TA_NAME(close)                                                                                 \
    TA_NAME(code)                                                                                  \
    TA_NAME(config_checked)                                                                        \
    TA_NAME(connection_lost)                                                                       \
    TA_NAME(context)                                                                               \
    TA_NAME(cookies)                                                                               \
    TA_NAME(cr_await)                                                                              \
    TA_NAME(cr_code)                                                                               \
    TA_NAME(cr_frame)                                                                              \
    TA_NAME(cr_running)                                                                            \
    TA_NAME(create_task)                                                                           \
    TA_NAME(credentials)                                                                           \
    TA_NAME(data)                                                                                  \
    TA_NAME(data_received)                                                                         \
    TA_NAME(dependencies)                                                                          \
    TA_NAME(dependency_overrides)                                                                  \
    TA_NAME(detail)                                                                                \
    TA_NAME(done)                                                                                  \
    TA_NAME(encode)                                                                                \
    TA_NAME(encodings_map)                                                                         \
    TA_NAME(end)                                                                                   \
    TA_NAME(endpoint)                                                                              \
    TA_NAME(error)                                                                                 \
    TA_NAME(errors)                                                                                \
    TA_NAME(eof_received)                                                                          \
    TA_NAME(events)                                                                                \
    TA_NAME(extend)                                                                                \
    TA_NAME(extensions)                                                                            \
    TA_NAME(f_locals)                                                                              \
    TA_NAME(fastapi)                                                                               \
    TA_NAME(fd)                                                                                    \
    TA_NAME(filename)                                                                              \
    TA_NAME(fileno)                                                                                \
    TA_NAME(fileobj)                                                                               \
    TA_NAME(follow_symlink)                                                                        \
    TA_NAME(func)                                                                                  \
    TA_NAME(get)                                                                                   \
    TA_NAME(get_buffer)                                                                            \
    TA_NAME(get_debug)                                                                             \
    TA_NAME(get_task_factory)                                                                      \
    TA_NAME(headers)                                                                               \
    TA_NAME(html)                                                                                  \
    TA_NAME(http)                                                                                  \
    TA_NAME(http_version)                                                                          \
    TA_NAME(https)                                                                                 \
    TA_NAME(is_async)                                                                              \
    TA_NAME(iterator)                                                                              \
    TA_NAME(json)                                                                                  \
    TA_NAME(kwargs)                                                                                \
    TA_NAME(land)                                                                                  \
    TA_NAME(leave)                                                                                 \
    TA_NAME(links)                                                                                 \
    TA_NAME(listen_for_disconnect)                                                                 \
    TA_NAME(loc)                                                                                   \
    TA_NAME(media_type)                                                                            \
    TA_NAME(method)                                                                                \
    TA_NAME(more_body)                                                                             \
    TA_NAME(more_trailers)                                                                         \
    TA_NAME(name)                                                                                  \
    TA_NAME(modified)                                                                              \
    TA_NAME(path)                                                                                  \
    TA_NAME(path_params)                                                                           \
    TA_NAME2(private_give, "_give")                                                                \
    TA_NAME2(private_headers_type, "_headers_type")                                                \
    TA_NAME2(private_pass, "_pass")                                                                \
    TA_NAME2(private_raw_paths, "_raw_paths")                                                      \
    TA_NAME2(private_receive, "_receive")                                                          \
    TA_NAME2(private_run, "_run")                                                                  \
    TA_NAME2(private_send, "_send")                                                                \
    TA_NAME2(private_task_factory, "_task_factory")                                                \
    TA_NAME2(private_thread_id, "_thread_id")                                                      \
    TA_NAME2(private_wait, "_wait")                                                                \
    TA_NAME(query_params)                                                                          \
    TA_NAME(query_string)                                                                          \
    TA_NAME(raw_headers)                                                                           \
    TA_NAME(raw_path)                                                                              \
    TA_NAME(reason)                                                                                \
    TA_NAME(request)                                                                               \
    TA_NAME(result)                                                                                \
    TA_NAME(root_path)                                                                             \
    TA_NAME(route)                                                                                 \
    TA_NAME(router)                                                                                \
    TA_NAME(scheme)                                                                                \
    TA_NAME(scope)                                                                                 \
    TA_NAME(send)                                                                                  \
    TA_NAME(serialization)                                                                         \
    TA_NAME(server)                                                                                \
    TA_NAME(set_exception)                                                                         \
    TA_NAME(set_result)                                                                            \
    TA_NAME(session)                                                                               \
    TA_NAME(solved)                                                                                \
    TA_NAME(stat_result)                                                                           \
    TA_NAME(state)                                                                                 \
    TA_NAME(status)                                                                                \
    TA_NAME(status_code)                                                                           \
    TA_NAME(stream_response)                                                                       \
    TA_NAME(subprotocol)                                                                           \
    TA_NAME(subprotocols)                                                                          \
    TA_NAME(suffix_map)                                                                            \
    TA_NAME(tasks)                                                                                 \
    TA_NAME(text)                                                                                  \
    TA_NAME(throw)                                                                                 \
    TA_NAME(trailers)                                                                              \
    TA_NAME(type)                                                                                  \
    TA_NAME(types_map)                                                                             \
    TA_NAME(uncancel)                                                                              \
    TA_NAME(value)                                                                                 \
    TA_NAME(websocket)                                                                             \
    TA_NAME(wrapped_receive)                                                                       \
    TA_NAME(write)                                                                                 \
    TA_NAME(ws)                                                                                    \
    TA_NAME(wss)                                                                                   \
    TA_NAME2(_body, "_body")                                                                       \
    TA_NAME2(_buffer, "_buffer")                                                                   \
    TA_NAME2(_cancelled, "_cancelled")                                                             \
    TA_NAME2(_db, "_db")                                                                           \
    TA_NAME2(_eof, "_eof")                                                                         \
    TA_NAME2(_form, "_form")                                                                       \
    TA_NAME2(_headers, "_headers")                                                                 \
    TA_NAME2(_limit, "_limit")                                                                     \
    TA_NAME2(_list, "_list")                                                                       \
    TA_NAME2(_paused, "_paused")                                                                   \
    TA_NAME2(_ready, "_ready")                                                                     \
    TA_NAME2(_run, "_run")                                                                         \
    TA_NAME2(_scheduled, "_scheduled")                                                             \
    TA_NAME2(_selector, "_selector")                                                               \
    TA_NAME2(_stopping, "_stopping")                                                               \
    TA_NAME2(_stream_consumed, "_stream_consumed")                                                 \
    TA_NAME2(_stream_reader_wr, "_stream_reader_wr")                                               \
    TA_NAME2(_timer_handle_cancelled, "_timer_handle_cancelled")                                   \
    TA_NAME2(_transport, "_transport")                                                             \
    TA_NAME2(_waiter, "_waiter")                                                                   \
    TA_NAME2(content_type, "content-type")                                                         \
    TA_NAME2(dunder_aenter, "__aenter__")                                                          \
    TA_NAME2(dunder_aexit, "__aexit__")                                                            \
    TA_NAME2(dunder_call, "__call__")                                                              \
    TA_NAME2(dunder_enter, "__enter__")                                                            \
    TA_NAME2(dunder_exit, "__exit__")                                                              \
    TA_NAME2(dunder_name, "__name__")                                                              \
    TA_NAME2(dunder_qualname, "__qualname__")                                                      \
    TA_NAME2(exception_handlers, "starlette.exception_handlers")                                   \
    TA_NAME2(fastapi_telemetry, "fastapi.telemetry")                                               \
    TA_NAME2(http_disconnect, "http.disconnect")                                                   \
    TA_NAME2(http_request, "http.request")                                                         \
    TA_NAME2(http_response_body, "http.response.body")                                             \
    TA_NAME2(http_response_debug, "http.response.debug")                                           \
    TA_NAME2(http_response_early_hint, "http.response.early_hint")                                 \
    TA_NAME2(http_response_pathsend, "http.response.pathsend")                                     \
    TA_NAME2(http_response_start, "http.response.start")                                           \
    TA_NAME2(http_response_trailers, "http.response.trailers")                                     \
    TA_NAME2(keep_alive, "_turboapi_keep_alive")                                                   \
    TA_NAME2(private_failed, "_failed")                                                            \
    TA_NAME2(private_renew, "_renew")                                                              \
    TA_NAME2(turboapi_exception, "turboapi.exception")                                             \
    TA_NAME2(turboapi_pathsend, "turboapi.pathsend")                                               \
    TA_NAME2(turboapi_request_id, "turboapi.request_id")                                           \
    TA_NAME2(turboapi_response_started, "turboapi.response_started")                               \
    TA_NAME2(v1_0, "1.0")                                                                          \
    TA_NAME2(v1_1, "1.1")                                                                          \
    TA_NAME2(v2, "2")                                                                              \
    TA_NAME2(websocket_accept, "websocket.accept")                                                 \
    TA_NAME2(websocket_close, "websocket.close")                                                   \
    TA_NAME2(websocket_connect, "websocket.connect")                                               \
    TA_NAME2(websocket_disconnect, "websocket.disconnect")                                         \
    TA_NAME2(websocket_http_response_body, "websocket.http.response.body")                         \
    TA_NAME2(websocket_http_response_start, "websocket.http.response.start")                       \
    TA_NAME2(websocket_receive, "websocket.receive")                                               \
    TA_NAME2(websocket_send, "websocket.send")

#endif
