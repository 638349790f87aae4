/* nano_template.h - the bundled model with another chat template: a copy of its file whose template is overwritten. */
#ifndef AIINFRA_TESTS_NANO_TEMPLATE_H
#define AIINFRA_TESTS_NANO_TEMPLATE_H

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/support/support.h"

/* ChatML whose assistant's turn begins with `begun`. The needles stand in a comment: they tell the format of calls. */
static bool nano_with_template(const char *needles, const char *begun, const char *path)
{
  static const char key[] = "tokenizer.chat_template";
  char source[1024];
  uint64_t n = 0, room;
  size_t size;
  char *file = test_read_file(test_path("examples/nano/nano.gguf"), &size);
  char *at = file != NULL ? memmem(file, size, key, sizeof key - 1) : NULL;
  if (at != NULL)
    n = (uint64_t)snprintf(source, sizeof source,
                           "{# %s #}{%% for m in messages %%}{{ '<|im_start|>' + m.role + '\\n' + m.content "
                           "+ '<|im_end|>\\n' }}{%% endfor %%}{{ '<|im_start|>assistant\\n%s' }}",
                           needles, begun);
  bool good = at != NULL && n < sizeof source;
  if (good) {
    at += sizeof key - 1 + 4; /* the value's type */
    memcpy(&room, at, sizeof room);
    good = n + 4 <= room;
    at += sizeof room;
  }
  if (good) { /* what is left over becomes a comment */
    memset(at, ' ', room);
    memcpy(at, source, n);
    memcpy(at + n, "{#", 2);
    memcpy(at + room - 2, "#}", 2);
  }
  FILE *out = good ? fopen(path, "wb") : NULL;
  good = out != NULL && fwrite(file, 1, size, out) == size;
  if (out != NULL) good &= fclose(out) == 0;
  free(file);
  return good;
}

#endif
