/*
 * line_writer.h -- lines that a thread of its own writes to a descriptor.
 *
 * Layer: base (L0).  Whoever has a line hands it over and goes on; when the reader of the
 * descriptor is slower than that for long, lines are dropped and counted.
 */
#ifndef TA_BASE_LINE_WRITER_H
#define TA_BASE_LINE_WRITER_H

#include "base/ta_base.h"

typedef struct ta_line_writer ta_line_writer;

/*
 * `fd` is borrowed until the writer has ended.  `room`: bytes of lines that may wait; as many again
 * may be on their way.  NULL: no memory, or no thread.
 */
TA_MUST_CHECK ta_line_writer *ta_line_writer_new(int fd, size_t room);

/*
 * Any thread.  Takes whole lines, each with its line feed, and never waits for the descriptor.
 * What does not fit is dropped: whole lines, the last ones.  To a pipe, lines of up to PIPE_BUF
 * bytes are written in one piece, so that those of several processes do not mix.
 */
void ta_line_writer_put(ta_line_writer *writer, ta_str lines);

/* Any thread: lines that were dropped, or could not be written, so far. */
uint64_t ta_line_writer_dropped(const ta_line_writer *writer);
/* Any thread: how many of those nobody was told of yet; 0 while there are still too many.  Each is
 * told once. */
uint64_t ta_line_writer_untold(ta_line_writer *writer);

/* Waits, at most for `ms`, until all is written.  False: it is not. */
bool ta_line_writer_flush(ta_line_writer *writer, unsigned ms);
/* Flushes, and ends the thread; what is not written then counts as dropped.  Lines that come later
 * do, too.  May be called again.  False: not all was written. */
bool ta_line_writer_close(ta_line_writer *writer, unsigned ms);
/* After the last call of any other function; closes at once what was not closed.  NULL allowed. */
void ta_line_writer_free(ta_line_writer *writer);

#endif
