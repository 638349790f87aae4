/* base64.h - base64 as tokenizer files hold it: the standard alphabet, padded or not. */
#ifndef AII_TEXT_BASE64_H
#define AII_TEXT_BASE64_H

#include "lib/base/base.h"

/* Appends the bytes; false when the text is no base64 (out->failed: memory ran out). */
bool aii_base64_decode(const char *text, size_t n, aii_buf *out);

#endif
