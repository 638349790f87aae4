/* products_decoded.cu - products of few rows with weights that are decoded to floats where they are multiplied. */
#include "kernels/cuda/few.h"

using namespace aii;

void aii::multiply_decoded(aii_cuda_stream stream, const few_products &all)
{
  switch (all.p[0].fmt) {
#define CASE(NAME) \
  case AII_FMT_##NAME: multiply_few<AII_FMT_##NAME>(stream, all); break;
    AII_DECODED_FORMATS(CASE)
#undef CASE
    default: break;
  }
}
