/* tests/fuzz/small_model.h - the model of targets whose file belongs to one: as small as it can be. */
#ifndef AIINFRA_TESTS_FUZZ_SMALL_MODEL_H
#define AIINFRA_TESTS_FUZZ_SMALL_MODEL_H

#include <stdlib.h>

#include "tests/data/gguf_maker.h"

static const gm_shape shape = {.arch = "llama",
                               .n_vocab = 263,
                               .n_embd = 8,
                               .n_layers = 1,
                               .n_heads = 2,
                               .n_kv_heads = 1,
                               .head_dim = 4,
                               .n_ff = 8,
                               .n_rot = 4,
                               .context = 16,
                               .seed = 3};

static inline void need(bool holds)
{
  if (!holds) abort();
}

#endif
