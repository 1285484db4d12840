"""What `_core.Server` serves, for programs that drive the core themselves.

The place of `native_app` before there was `_compile/`; programs that measure and test the core
import it from here.
"""

from turboapi._compile.native_app import native_app

__all__ = ["native_app"]
