"""The HTML of the documentation pages, as templates for `docs.py`.

The two UI pages are byte for byte those of FastAPI, as applications and tests look into them; an
application adds the notice for those who cannot reach the CDN.
The redirect page is our own: the protocol it speaks is that of Swagger UI's `oauth2-redirect.html`.
"""

from string import Template
from typing import Final

# Swagger UI: one `"name": value,` line per parameter, then the redirect URL, then OAuth.
SWAGGER_UI: Final = Template("""
    <!DOCTYPE html>
    <html>
    <head>
    <meta name="viewport" content="width=device-width, initial-scale=1.0">
    <link type="text/css" rel="stylesheet" href="$css_url">
    <link rel="shortcut icon" href="$favicon_url">
    <title>$title</title>
    </head>
    <body>
    <div id="swagger-ui">
    </div>
    <script src="$js_url"></script>
    <!-- `SwaggerUIBundle` is now available on the page -->
    <script>
    const ui = SwaggerUIBundle({
        url: '$openapi_url',
    $parameters$redirect
    presets: [
        SwaggerUIBundle.presets.apis,
        SwaggerUIBundle.SwaggerUIStandalonePreset
        ],
    })$oauth
    </script>
    </body>
    </html>
    """)

SWAGGER_UI_PARAMETER: Final = Template("$name: $value,\n")

SWAGGER_UI_REDIRECT: Final = Template("oauth2RedirectUrl: window.location.origin + '$url',")

SWAGGER_UI_OAUTH: Final = Template("""
        ui.initOAuth($options)
        """)

REDOC: Final = Template("""
    <!DOCTYPE html>
    <html>
    <head>
    <title>$title</title>
    <!-- needed for adaptive design -->
    <meta charset="utf-8"/>
    <meta name="viewport" content="width=device-width, initial-scale=1">
    $fonts
    <link rel="shortcut icon" href="$favicon_url">
    <!--
    ReDoc doesn't change outer page styles
    -->
    <style>
      body {
        margin: 0;
        padding: 0;
      }
    </style>
    </head>
    <body>
    <noscript>
        ReDoc requires Javascript to function. Please enable it to browse the documentation.
    </noscript>
    <redoc spec-url="$openapi_url"></redoc>
    <script src="$js_url"> </script>
    </body>
    </html>
    """)

# What is put before `</body>` of a page whose script comes from a CDN: the page would otherwise
# stay blank for ever where there is no Internet.
CDN_NOTICE: Final = Template("""<script>
    if (typeof $object === "undefined") {
        const notice = document.createElement("p");
        notice.style = "font: 1rem/1.5 sans-serif; margin: 2rem auto; max-width: 40rem";
        notice.textContent = "$library could not be loaded from its CDN. To have it served by this "
            + "application, install its files where the application runs (pip install "
            + "'turboapi-c[docs]') and start it again. The OpenAPI document itself: ";
        const link = document.createElement("a");
        link.href = link.textContent = $openapi_url;
        notice.append(link);
        document.body.append(notice);
    }
    </script>
    """)

REDOC_FONTS: Final = (
    "\n"
    '    <link href="https://fonts.googleapis.com/css?family=Montserrat:300,400,700|Roboto:300,400,700"'
    ' rel="stylesheet">\n'
    "    "
)

# Opened by Swagger UI in a window of its own; the authorisation server sends the browser here with
# the answer in the query (code flow) or the fragment (implicit flow).  The opener left what it
# knows in `swaggerUIRedirectOauth2`.
OAUTH2_REDIRECT: Final = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>Swagger UI: OAuth2 Redirect</title>
</head>
<body>
<script>
"use strict";
(function () {
  const pending = window.opener.swaggerUIRedirectOauth2;
  const CODE_FLOWS = ["accessCode", "authorizationCode", "authorization_code"];

  function answer() {
    const fragment = window.location.hash.slice(1);
    const inFragment = /code|token|error/.test(fragment);
    const text = inFragment ? fragment.replace("?", "&") : window.location.search.slice(1);
    return Object.fromEntries(new URLSearchParams(text));
  }

  function report(level, message) {
    pending.errCb({ authId: pending.auth.name, source: "auth", level: level, message: message });
  }

  function explain(got) {
    if (!got.error) {
      return "[Authorization failed]: no accessCode received from the server.";
    }
    const why = got.error_description || "no accessCode received from the server";
    const more = got.error_uri ? "More info: " + got.error_uri : "";
    return "[" + got.error + "]: " + why + ". " + more;
  }

  function finish() {
    const got = answer();
    const stateMatches = got.state === pending.state;
    const wantsCode = CODE_FLOWS.includes(pending.auth.schema.get("flow")) && !pending.auth.code;
    const done = { auth: pending.auth, redirectUrl: pending.redirectUrl };
    if (!wantsCode) {
      pending.callback(Object.assign(done, { token: got, isValid: stateMatches }));
      return;
    }
    if (!stateMatches) {
      report(
        "warning",
        "Authorization may be unsafe: the state that came back is not the one that was sent."
      );
    }
    if (!got.code) {
      report("error", explain(got));
      return;
    }
    delete pending.state;
    pending.auth.code = got.code;
    pending.callback(done);
  }

  function run() {
    finish();
    window.close();
  }

  if (document.readyState === "loading") {
    document.addEventListener("DOMContentLoaded", run);
  } else {
    run();
  }
})();
</script>
</body>
</html>
"""
