/* test_recipe.c - which type each tensor of a quantised file gets, against what the field's files have. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <stdio.h>

#include "src/model/model.h"
#include "tests/support/support.h"

/* A dense model of 32 layers, 4096 wide, unless changed. */
static aii_recipe_tensor tensor(const char *name, uint32_t layer)
{
  return (aii_recipe_tensor){
      .name = name, .n_dims = 2, .ne0 = 4096, .layer = layer, .n_layers = 32, .n_experts = 0, .n_gqa = 1};
}

static void expect(const char *recipe, aii_recipe_tensor t, aii_dtype want)
{
  const aii_recipe *r = aii_recipe_find(recipe);
  assert_non_null(r);
  aii_dtype got = aii_recipe_type(r, &t);
  if (got != want)
    fail_msg("%s gives %s of layer %u type %s, not %s", recipe, t.name, t.layer, aii_dtype_info((uint32_t)got)->name,
             aii_dtype_info((uint32_t)want)->name);
}

static uint32_t layers_with(const char *recipe, const char *name, aii_dtype type)
{
  uint32_t n = 0;
  for (uint32_t l = 0; l < 32; l++) {
    aii_recipe_tensor t = tensor(name, l);
    n += aii_recipe_type(aii_recipe_find(recipe), &t) == type;
  }
  return n;
}

static void test_names(void **state)
{
  (void)state;
  assert_null(aii_recipe_find("Q4_K_X"));
  assert_ptr_equal(aii_recipe_find("q4_k_m"), aii_recipe_find("Q4_K_M"));
  assert_int_equal(aii_recipe_find("Q4_K_M")->file_type, 15);
  size_t n = 0;
  while (aii_recipe_at(n) != NULL) assert_ptr_equal(aii_recipe_find(aii_recipe_at(n)->name), aii_recipe_at(n)), n++;
  assert_true(n >= 16);
}

static void test_medium(void **state)
{
  (void)state;
  /* layers 0-3, 28-31 and every third of the others: 16 of 32 */
  assert_int_equal(layers_with("Q4_K_M", "blk.0.attn_v.weight", AII_Q6_K), 16);
  assert_int_equal(layers_with("Q4_K_M", "blk.0.ffn_down.weight", AII_Q6_K), 16);
  assert_int_equal(layers_with("Q5_K_M", "blk.0.attn_v.weight", AII_Q6_K), 16);
  assert_int_equal(layers_with("Q4_K_M", "blk.0.attn_q.weight", AII_Q4_K), 32);
  assert_int_equal(layers_with("Q4_K_S", "blk.0.attn_v.weight", AII_Q5_K), 4);
  assert_int_equal(layers_with("Q4_K_S", "blk.0.ffn_down.weight", AII_Q5_K), 4);
  assert_int_equal(layers_with("Q3_K_M", "blk.0.ffn_down.weight", AII_Q5_K), 2);
  assert_int_equal(layers_with("Q3_K_M", "blk.0.attn_output.weight", AII_Q4_K), 32);
  assert_int_equal(layers_with("Q2_K", "blk.0.ffn_down.weight", AII_Q3_K), 32);
  expect("Q4_K_M", tensor("blk.6.attn_v.weight", 6), AII_Q6_K);
  expect("Q4_K_M", tensor("blk.7.attn_v.weight", 7), AII_Q4_K);
  expect("Q4_K_M", tensor("token_embd.weight", 0), AII_Q4_K);
  expect("Q4_K_M", tensor("blk.0.attn_qkv.weight", 0), AII_Q5_K);
}

static void test_output(void **state)
{
  (void)state;
  aii_recipe_tensor t = tensor("output.weight", 0);
  t.is_output = true;
  expect("Q4_K_M", t, AII_Q6_K);
  expect("Q4_0", t, AII_Q6_K);
  expect("Q8_0", t, AII_Q8_0);
  expect("BF16", t, AII_BF16);
  t.ne0 = 288;
  expect("Q4_0", t, AII_Q8_0);
  t.name = "token_embd.weight"; /* tied */
  t.ne0 = 4096;
  expect("Q2_K", t, AII_Q6_K);
}

static void test_what_stays_float(void **state)
{
  (void)state;
  aii_recipe_tensor norm = tensor("blk.0.attn_norm.weight", 0), bias = tensor("blk.0.attn_q.bias", 0);
  norm.n_dims = 1;
  expect("Q4_K_M", norm, AII_F32);
  expect("F16", norm, AII_F32);
  expect("Q4_K_M", bias, AII_F32);
  expect("Q4_K_M", tensor("blk.0.ffn_gate_inp.weight", 0), AII_F32);
}

static void test_rows_that_do_not_fit(void **state)
{
  (void)state;
  aii_recipe_tensor t = tensor("blk.9.attn_q.weight", 9);
  t.ne0 = 288;
  expect("Q4_K_M", t, AII_Q5_0);
  expect("Q5_K_M", t, AII_Q5_1);
  expect("Q6_K", t, AII_Q8_0);
  expect("Q2_K", t, AII_IQ4_NL);
  expect("Q3_K_M", t, AII_IQ4_NL);
  expect("IQ4_XS", t, AII_IQ4_NL);
  expect("Q4_0", t, AII_Q4_0);
  t.ne0 = 100;
  expect("Q4_0", t, AII_F16);
  expect("Q4_K_M", t, AII_F16);
}

static void test_shared_heads_and_experts(void **state)
{
  (void)state;
  aii_recipe_tensor t = tensor("blk.9.attn_v.weight", 9), e = tensor("blk.9.ffn_up_exps.weight", 9);
  t.n_gqa = 4;
  expect("Q2_K", t, AII_Q4_K);
  expect("IQ4_NL", t, AII_Q5_K);
  t.n_experts = 8;
  expect("Q4_K_M", t, AII_Q8_0);
  e.n_dims = 3;
  e.n_experts = 64;
  expect("MXFP4", e, AII_MXFP4);
  expect("MXFP4", tensor("blk.9.attn_q.weight", 9), AII_MXFP4); /* a model without experts */
  t.n_experts = 64;
  expect("MXFP4", t, AII_Q8_0);
  aii_recipe_tensor d = tensor("blk.0.ffn_down.weight", 0);
  expect("IQ4_NL", d, AII_Q5_K);
  d.has_importance = true;
  expect("IQ4_NL", d, AII_IQ4_NL);
  expect("Q4_0", d, AII_Q4_1);
}

int main(void)
{
  const struct CMUnitTest tests[] = {
      cmocka_unit_test(test_names),
      cmocka_unit_test(test_medium),
      cmocka_unit_test(test_output),
      cmocka_unit_test(test_what_stays_float),
      cmocka_unit_test(test_rows_that_do_not_fit),
      cmocka_unit_test(test_shared_heads_and_experts),
  };
  return cmocka_run_group_tests(tests, NULL, NULL);
}
