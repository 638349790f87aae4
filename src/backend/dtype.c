/* src/backend/dtype.c - the element types by their GGUF id. */
#include "src/backend/backend.h"

const aii_dtype_traits *aii_dtype_info(uint32_t gguf_type)
{
  static const aii_dtype_traits f32 = {"F32", 1, 4}, f16 = {"F16", 1, 2}, bf16 = {"BF16", 1, 2},
                                q4_0 = {"Q4_0", 32, 18}, q8_0 = {"Q8_0", 32, 34};
  switch (gguf_type) {
    case AII_F32: return &f32;
    case AII_F16: return &f16;
    case AII_BF16: return &bf16;
    case AII_Q4_0: return &q4_0;
    case AII_Q8_0: return &q8_0;
    default: return NULL;
  }
}
