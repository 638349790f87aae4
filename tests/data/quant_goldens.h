/* quant_goldens.h - what the gguf package decodes and encodes; written by tests/reference/quants.py --goldens.
 *
 * The inputs are made by test_quantize.c: blocks of random bytes whose halves (at half_at, -2: none; -1: an exponent)
 * are finite, and cubes of random floats. Hashes are FNV-1a over the bytes of all results.
 */
static const struct quant_golden {
  aii_dtype type;
  int half_at[2];
  uint32_t sample[4];        /* bits of the floats 0, 1, block / 2 and the last one */
  uint64_t decoded, encoded; /* encoded 0: the package has no encoder */
} quant_goldens[] = {
    /* clang-format off */
    {AII_F16, {0, -2}, {0x3bc78000, 0xbe902000, 0x3bc78000, 0xbf678000}, 0x35af1627320b1a8fu, 0x94d7f2418ce15fdcu},
    {AII_BF16, {0, -2}, {0x1e3c0000, 0xb4810000, 0x1e3c0000, 0xbb3c0000}, 0xc14290577cf4b409u, 0x43c2b9b38b81df1au},
    {AII_Q8_0, {0, -2}, {0xbf45f100, 0xbeece800, 0xbeff9c00, 0x3b51fa00}, 0x5362fb061551979du, 0x9c19c2133a48b2d9u},
    {AII_Q4_0, {0, -2}, {0xbd2e9000, 0xbcc78000, 0x00000000, 0x3891e000}, 0x0f980612df9927f0u, 0x5399fcc6aaba8f98u},
    {AII_Q4_1, {0, 2}, {0xbe557000, 0xbe48f800, 0xbe902000, 0xba912800}, 0xb9921b8ec094e1d1u, 0x4f378433ca04188du},
    {AII_Q5_0, {0, -2}, {0x3d15a000, 0xbc478000, 0xbcc78000, 0xbfa07200}, 0x69c765e07d16a77bu, 0x29b1afed1379b24cu},
    {AII_Q5_1, {0, 2}, {0xbe83a800, 0xbe86c600, 0xbe902000, 0x3f2ede00}, 0xdde418067845e50fu, 0xf5f4215afe8382ffu},
    {AII_Q2_K, {80, 82}, {0xba84d800, 0xbd2aeec0, 0xbc5e6000, 0xbc679000}, 0xe25989c94124af30u, 0x0000000000000000u},
    {AII_Q3_K, {108, -2}, {0xbadc2c00, 0xba12c800, 0xbb1d4400, 0xbf11f200}, 0xfa958eda91542a31u, 0x0000000000000000u},
    {AII_Q4_K, {0, 2}, {0x40002c00, 0x3fac2e00, 0x40279880, 0x3f9b9f90}, 0x91f52ab9c9a46578u, 0x0000000000000000u},
    {AII_Q5_K, {0, 2}, {0x3fd19600, 0x40590300, 0x4055f6c0, 0x40db2c00}, 0xb70346207029abe5u, 0x0000000000000000u},
    {AII_Q6_K, {208, -2}, {0xc5030720, 0x4315bf00, 0xc48b3ee0, 0x43b1681c}, 0xec0e2ee05eba25deu, 0x0000000000000000u},
    {AII_IQ4_NL, {0, -2}, {0xbf221800, 0xbe98be00, 0x3bc78000, 0x3a6d0c00}, 0x2bbf520b067125e5u, 0x0000000000000000u},
    {AII_IQ4_XS, {0, -2}, {0x3f98be00, 0x3fca9e00, 0xc0c07c80, 0xc120ac00}, 0x0dcce8e1af4c32b8u, 0x0000000000000000u},
    {AII_TQ1_0, {52, -2}, {0xbf7e6000, 0x00000000, 0x3f7e6000, 0xbd5f8000}, 0xdbf2235500532672u, 0xa7e3f28e6dbb6abdu},
    {AII_TQ2_0, {64, -2}, {0x3dd96000, 0xbdd96000, 0x00000000, 0x3b3e2000}, 0x4d99522d5864aec1u, 0x4cbdaa377c92018fu},
    {AII_MXFP4, {-1, -2}, {0x9f000000, 0x1d800000, 0x1ec00000, 0x99c00000}, 0x07f9bef0188ab225u, 0xd5b78b50fd2744e4u},
    {AII_NVFP4, {-2, -2}, {0xc0400000, 0xc0c00000, 0x3c400000, 0x00000000}, 0x31998e7cedb19f53u, 0x0000000000000000u},
    /* clang-format on */
};
