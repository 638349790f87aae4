/* safetensors_fuzz.c - any bytes as a safetensors file: refused, or every byte of every tensor can be read. */
#include "src/model/safetensors.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile unsigned sink;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
  aii_mem mem;
  aii_safetensors st;
  aiinfra_error err;
  unsigned sum = 0;
  aii_mem_init(&mem, NULL, 0);
  if (aii_safetensors_parse(&mem, data, size, &st, &err) == AIINFRA_OK) {
    for (size_t i = 0; i < st.n; i++) {
      for (uint64_t b = 0; b < st.tensors[i].bytes; b++) sum += st.tensors[i].data[b];
    }
    aii_safetensors_free(&st);
  }
  if (mem.used_bytes != 0) __builtin_trap();
  sink = sum;
  return 0;
}
