/* The same tests over the code for processors without SSE2. */
#define TA_NO_SIMD 1
#include "test_escape.c"
#include "json/escape.c"
