/* test_packed.c - weights kept in a packed file: the same answers, never stale, never damaged, never in the way. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "aiinfra/convert.h"
#include "aiinfra/eval.h"
#include "kernels/panel.h"
#include "src/model/model.h"
#include "tests/data/gguf_maker.h"
#include "tests/support/support.h"

enum { N_VOCAB = 270, N_TOKENS = 6, N_LOGITS = N_TOKENS * N_VOCAB };

static const gm_shape shape = {.arch = "llama",
                               .n_vocab = N_VOCAB,
                               .n_embd = 256,
                               .n_layers = 1,
                               .n_heads = 4,
                               .n_kv_heads = 2,
                               .head_dim = 64,
                               .n_ff = 256,
                               .n_rot = 64,
                               .context = 32,
                               .seed = 5};

static aiinfra_runtime *rt;
static aiinfra_error err;
static const char *load_type; /* of the next models */
static int32_t bf16_activations;

/* What the log said since it was last looked at; any thread may speak. */
static char said[4096];
static pthread_mutex_t said_lock = PTHREAD_MUTEX_INITIALIZER;

static void note(void *user, aiinfra_log_level level, const char *message)
{
  (void)user;
  (void)level;
  pthread_mutex_lock(&said_lock);
  size_t n = strlen(said);
  snprintf(said + n, sizeof said - n, "%s\n", message);
  pthread_mutex_unlock(&said_lock);
}

static bool was_said(const char *text)
{
  return strstr(said, text) != NULL;
}

static void expect_said(const char *text)
{
  if (!was_said(text)) fail_msg("it should say \"%s\", and said:\n%s", text, said);
}

static void must(aiinfra_status rc)
{
  if (rc != AIINFRA_OK) fail_msg("%s: %s", aiinfra_status_name(rc), err.message);
}

static void start(void)
{
  aiinfra_runtime_opts opts = AIINFRA_RUNTIME_OPTS_INIT;
  opts.log = note;
  opts.log_level = AIINFRA_LOG_INFO;
  opts.n_threads = 2;
  if (rt == NULL) must(aiinfra_runtime_create(&opts, &rt, &err));
}

static aiinfra_status answer(const char *path, const char *packed, float *logits, size_t *used)
{
  aiinfra_model_opts opts = AIINFRA_MODEL_OPTS_INIT;
  aiinfra_token tokens[N_TOKENS];
  aiinfra_model *model = NULL;
  aiinfra_eval *eval = NULL;
  for (int i = 0; i < N_TOKENS; i++) tokens[i] = 3 + 17 * i;
  opts.packed_path = packed;
  opts.load_type = load_type;
  opts.bf16_activations = bf16_activations;
  said[0] = '\0';
  size_t before = rt->mem.used_bytes;
  aiinfra_status rc = aiinfra_model_open(rt, path, &opts, &model, &err);
  if (rc == AIINFRA_OK && used != NULL) *used = rt->mem.used_bytes - before;
  if (rc == AIINFRA_OK) rc = aiinfra_eval_create(model, NULL, &eval, &err);
  if (rc == AIINFRA_OK) rc = aiinfra_eval_run(eval, tokens, N_TOKENS, N_TOKENS, logits, N_LOGITS, &err);
  aiinfra_eval_free(eval);
  aiinfra_model_free(model);
  return rc;
}

/* The model opens and says with a packed file what it says without. */
static void expect_same(const char *path, const char *packed)
{
  static float plain[N_LOGITS], other[N_LOGITS];
  must(answer(path, NULL, plain, NULL));
  must(answer(path, packed, other, NULL));
  assert_memory_equal(plain, other, sizeof plain);
}

/* A model file of that name. type NULL: F32. */
static const char *make_model(const char *name, const char *type)
{
  const char *path = test_tmp(name);
  size_t n;
  uint8_t *bytes = gm_model(&shape, &n);
  assert_int_equal(test_write_file(type == NULL ? path : test_tmp("floats.gguf"), bytes, n), 0);
  free(bytes);
  if (type == NULL) return path;
  aiinfra_convert_opts opts = AIINFRA_CONVERT_OPTS_INIT;
  opts.type = type;
  must(aiinfra_convert(rt, test_tmp("floats.gguf"), path, &opts, &err));
  return path;
}

static void write_at(const char *path, off_t at, int change)
{
  unsigned char byte;
  int fd = open(path, O_RDWR);
  assert_true(fd >= 0 && pread(fd, &byte, 1, at) == 1);
  byte = (unsigned char)(byte ^ change);
  assert_int_equal(pwrite(fd, &byte, 1, at), 1);
  close(fd);
}

static off_t size_of(const char *path)
{
  struct stat st;
  return stat(path, &st) == 0 ? st.st_size : -1;
}

/* ---- processes: first, while this one has no threads ---------------------------------------------------------------- */

static int open_and_remove(const char *path, const char *packed)
{
  static float plain[N_LOGITS], other[N_LOGITS];
  start();
  if (answer(path, NULL, plain, NULL) != AIINFRA_OK) return 1;
  for (int i = 0; i < 12; i++) {
    if (answer(path, packed, other, NULL) != AIINFRA_OK || memcmp(plain, other, sizeof plain) != 0) return 2;
    if (was_said("not used") || was_said("not kept")) return 3;
    if (i % 3 == 0) (void)unlink(packed);
  }
  aiinfra_runtime_free(rt);
  return 0;
}

static void test_processes_do_not_disturb_each_other(void **state)
{
  enum { N = 3 };
  char path[512], packed[512];
  pid_t pids[N];
  (void)state;
  snprintf(path, sizeof path, "%s", make_model("shared.gguf", NULL));
  snprintf(packed, sizeof packed, "%s", test_tmp("shared.packed"));
  for (int i = 0; i < N; i++) {
    pids[i] = fork();
    if (pids[i] == 0) _exit(open_and_remove(path, packed));
  }
  for (int i = 0; i < N; i++) {
    int code = -1;
    assert_int_equal(waitpid(pids[i], &code, 0), pids[i]);
    assert_int_equal(code, 0);
  }
}

/* ---- use ------------------------------------------------------------------------------------------------------------- */

static void test_every_type_answers_alike(void **state)
{
  static const char *const types[] = {NULL,   "F16",    "BF16",   "Q8_0", "Q4_0",
                                      "Q5_1", "Q4_K_M", "Q5_K_M", "Q6_K", "IQ4_NL"};
  (void)state;
  start();
  for (size_t i = 0; i < AII_COUNT(types); i++) {
    const char *path = make_model("typed.gguf", types[i]), *packed = test_tmp("typed.packed");
    (void)unlink(packed);
    expect_same(path, packed);
    assert_true(was_said("packed weights written"));
    expect_same(path, packed);
    assert_true(was_said("packed weights mapped"));
    assert_false(was_said("written"));
  }
}

static void test_a_second_opening_packs_nothing(void **state)
{
  static float logits[N_LOGITS];
  size_t first, second;
  (void)state;
  const char *path = make_model("second.gguf", "Q8_0"), *packed = test_tmp("second.packed");
  must(answer(path, packed, logits, &first));
  must(answer(path, packed, logits, &second));
  print_message("%zu bytes of memory, then %zu; the file has %lld\n", first, second, (long long)size_of(packed));
  assert_true((long long)(first - second) > (long long)size_of(packed) - 8192);
}

static void test_the_name_beside_the_model(void **state)
{
  (void)state;
  const char *path = make_model("beside.gguf", NULL);
  expect_same(path, "");
  assert_true(size_of(test_tmp("beside.gguf.packed")) > 0);
  expect_same(path, "");
  assert_true(was_said("mapped"));
  assert_int_equal(unlink(test_tmp("beside.gguf.packed")), 0);
  expect_same(path, NULL);
  assert_true(size_of(test_tmp("beside.gguf.packed")) < 0);
}

static void test_weights_made_while_opening(void **state)
{
  (void)state;
  const char *path = make_model("made.gguf", NULL), *packed = test_tmp("made.packed");
  load_type = "Q8_0";
  expect_same(path, packed);
  expect_same(path, packed);
  assert_true(was_said("mapped"));
  load_type = "Q4_0";
  expect_same(path, packed);
  assert_true(was_said("the model is another one"));
  assert_true(was_said("written"));
  load_type = NULL;
}

/* A file has one of the forms that BF16 has; the other one is made anew, and answers stay right. */
static void test_another_choice_of_activations(void **state)
{
  static float exact[N_LOGITS], rounded[N_LOGITS];
  (void)state;
  const char *path = make_model("rounded.gguf", "BF16"), *packed = test_tmp("rounded.packed");
  must(answer(path, packed, exact, NULL));
  bf16_activations = 1;
  must(answer(path, NULL, rounded, NULL));
  bool rounds = memcmp(exact, rounded, sizeof exact) != 0;
  for (int times = 0; times < 2 && rounds; times++) {
    bf16_activations = 1;
    expect_same(path, packed);
    expect_said("it was made for activations of another type");
    expect_said("packed weights written");
    expect_same(path, packed);
    expect_said("packed weights mapped");
    bf16_activations = 0;
    expect_same(path, packed);
    expect_said("it was made for activations of another type");
  }
  if (!rounds) expect_same(path, packed);
  bf16_activations = 0;
  if (!rounds) test_skip("this CPU has no AVX512-BF16: both choices have the same form");
}

/* ---- stale ------------------------------------------------------------------------------------------------------------ */

static void wait_until_old(void)
{
  struct timespec t = {3, 100000000};
  nanosleep(&t, NULL);
}

/* Same name, same size, same modification time: in one that is old, and in one that has just been written. */
static void test_a_changed_model_is_noticed(void **state)
{
  (void)state;
  for (int old = 0; old < 2; old++) {
    const char *path = make_model("changed.gguf", NULL), *packed = test_tmp("changed.packed");
    struct stat st;
    (void)unlink(packed);
    if (old) wait_until_old();
    expect_same(path, packed);
    assert_int_equal(stat(path, &st), 0);
    write_at(path, st.st_size - 1, 1); /* the lowest byte's neighbours: a number of ffn_down */
    const struct timespec times[2] = {st.st_atim, st.st_mtim};
    assert_int_equal(utimensat(AT_FDCWD, path, times, 0), 0);
    expect_same(path, packed);
    assert_true(was_said("the model has changed"));
    assert_true(was_said("written"));
    expect_same(path, packed);
    assert_true(was_said("mapped"));
  }
}

/* Its rows are read once and found equal; when its times tell something again, the file learns them. */
static void test_a_model_with_new_times_is_the_same(void **state)
{
  (void)state;
  const char *path = make_model("touched.gguf", NULL), *packed = test_tmp("touched.packed");
  wait_until_old();
  expect_same(path, packed);
  assert_int_equal(utimensat(AT_FDCWD, path, NULL, 0), 0);
  expect_same(path, packed);
  assert_true(was_said("mapped"));
  assert_false(was_said("written"));
  wait_until_old();
  expect_same(path, packed);
  assert_true(was_said("mapped") && was_said("written"));
  expect_same(path, packed);
  assert_true(was_said("mapped"));
  assert_false(was_said("written"));
}

static void test_another_model_of_the_same_shape(void **state)
{
  (void)state;
  const char *path = make_model("one.gguf", NULL), *packed = test_tmp("one.packed");
  expect_same(path, packed);
  gm_shape s = shape;
  size_t n;
  s.seed++;
  uint8_t *bytes = gm_model(&s, &n);
  const char *other = test_tmp("other.gguf");
  assert_int_equal(test_write_file(other, bytes, n), 0);
  free(bytes);
  expect_same(other, packed);
  assert_true(was_said("the model has changed"));
}

/* ---- damaged ---------------------------------------------------------------------------------------------------------- */

static void test_cut_short_anywhere(void **state)
{
  (void)state;
  const char *path = make_model("cut.gguf", "Q8_0"), *packed = test_tmp("cut.packed");
  expect_same(path, packed);
  off_t size = size_of(packed);
  for (int i = 0; i < 100; i++) {
    off_t at = i < 50 ? i * 13 : size * (i - 49) / 51 - 1;
    assert_int_equal(truncate(packed, at), 0);
    expect_same(path, packed);
    if (!was_said("not used") || !was_said("written")) fail_msg("cut to %lld bytes: %s", (long long)at, said);
    assert_int_equal(size_of(packed), size);
  }
}

static void test_a_bit_flips_anywhere(void **state)
{
  (void)state;
  const char *path = make_model("flipped.gguf", "Q8_0"), *packed = test_tmp("flipped.packed");
  expect_same(path, packed);
  off_t size = size_of(packed);
  for (int i = 0; i < 100; i++) {
    off_t at = i < 60 ? 8 + i * 9 : 4096 + (size - 4096) * (i - 60) / 40;
    write_at(packed, at, 1 << i % 8);
    expect_same(path, packed);
    if (!was_said("not used") || !was_said("written")) fail_msg("bit at %lld: %s", (long long)at, said);
  }
}

static void test_a_file_of_somebody_else_stays(void **state)
{
  (void)state;
  const char *path = make_model("victim.gguf", NULL);
  off_t size = size_of(path);
  expect_same(path, path);
  assert_true(was_said("this is no file of packed weights"));
  assert_int_equal(size_of(path), size);
  const char *letter = test_tmp("letter.txt");
  assert_int_equal(test_write_file(letter, "Dear all", 8), 0);
  expect_same(path, letter);
  assert_true(was_said("this is no file of packed weights"));
  assert_int_equal(size_of(letter), 8);
  expect_same(path, test_tmp_dir());
  assert_true(was_said("not a regular file"));
}

/* ---- places that cannot be written ------------------------------------------------------------------------------------- */

static void test_no_folder(void **state)
{
  (void)state;
  expect_same(make_model("homeless.gguf", NULL), test_tmp("nowhere/homeless.packed"));
  assert_true(was_said("packed weights not kept"));
}

static void test_a_folder_that_is_read_only(void **state)
{
  (void)state;
  const char *path = make_model("locked.gguf", NULL), *folder = test_tmp("locked");
  char packed[1100];
  snprintf(packed, sizeof packed, "%s/locked.packed", folder);
  assert_int_equal(chmod(test_tmp_dir(), 0755), 0);
  assert_int_equal(mkdir(folder, 0555), 0);
  uid_t user = geteuid();
  if (user == 0 && seteuid(65534) != 0) test_skip("needs another user than root");
  if (access(path, R_OK) == 0) expect_same(path, packed);
  if (user == 0) assert_int_equal(seteuid(user), 0);
  assert_true(was_said("packed weights not kept"));
  assert_true(size_of(packed) < 0);
}

static void test_a_full_disk(void **state)
{
  (void)state;
  const char *path = make_model("full.gguf", NULL);
  char folder[600], packed[700];
  snprintf(folder, sizeof folder, "%s", test_tmp("full"));
  snprintf(packed, sizeof packed, "%s/full.packed", folder);
  assert_int_equal(mkdir(folder, 0755), 0);
  struct rlimit old, small;
  assert_int_equal(getrlimit(RLIMIT_FSIZE, &old), 0);
  small = old;
  small.rlim_cur = 100000;
  signal(SIGXFSZ, SIG_IGN);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &small), 0);
  expect_same(path, packed);
  assert_int_equal(setrlimit(RLIMIT_FSIZE, &old), 0);
  assert_true(was_said("packed weights not kept"));
  assert_int_equal(rmdir(folder), 0); /* nothing is left */
}

/* ---- the form ----------------------------------------------------------------------------------------------------------- */

/* Files hold panels: who moves a byte of them must say so by another number. */
static void test_panels_are_as_their_number_says(void **state)
{
  static unsigned char rows[AII_PANEL * 2048], panel[AII_PANEL * 2048];
  (void)state;
  uint64_t hash = AII_PANEL_LAYOUT;
  for (size_t i = 0; i < sizeof rows; i++) rows[i] = (unsigned char)(aii_hash64(&i, sizeof i, 1) & 255);
  for (int f = 0; f < AII_FMT_PACKED; f++) {
    size_t stride = aii_fmt_row_bytes((aii_fmt)f, 512), n = aii_panel_bytes((aii_fmt)f, 512);
    aii_panel_pack((aii_fmt)f, rows, stride, AII_PANEL, 512, panel);
    hash = aii_hash64(panel, n, hash);
  }
  uint64_t pairs = AII_PANEL_LAYOUT;
  aii_panel_pack(AII_FMT_BF16_PAIRS, rows, 2 * 511, AII_PANEL, 511, panel);
  pairs = aii_hash64(panel, aii_panel_bytes(AII_FMT_BF16_PAIRS, 511), pairs);
  if (hash != 0xB32C337C27ACC422u || pairs != 0x70735F4CFC2FC273u)
    fail_msg("panels have changed: raise AII_PANEL_LAYOUT, and put 0x%016llX and 0x%016llX here",
             (unsigned long long)hash, (unsigned long long)pairs);
}

static int stop(void **state)
{
  (void)state;
  aiinfra_runtime_free(rt);
  return 0;
}

int main(void)
{
  const struct CMUnitTest tests[] = {cmocka_unit_test(test_processes_do_not_disturb_each_other),
                                     cmocka_unit_test(test_every_type_answers_alike),
                                     cmocka_unit_test(test_a_second_opening_packs_nothing),
                                     cmocka_unit_test(test_the_name_beside_the_model),
                                     cmocka_unit_test(test_weights_made_while_opening),
                                     cmocka_unit_test(test_another_choice_of_activations),
                                     cmocka_unit_test(test_a_changed_model_is_noticed),
                                     cmocka_unit_test(test_a_model_with_new_times_is_the_same),
                                     cmocka_unit_test(test_another_model_of_the_same_shape),
                                     cmocka_unit_test(test_cut_short_anywhere),
                                     cmocka_unit_test(test_a_bit_flips_anywhere),
                                     cmocka_unit_test(test_a_file_of_somebody_else_stays),
                                     cmocka_unit_test(test_no_folder),
                                     cmocka_unit_test(test_a_folder_that_is_read_only),
                                     cmocka_unit_test(test_a_full_disk),
                                     cmocka_unit_test(test_panels_are_as_their_number_says)};
  return cmocka_run_group_tests(tests, NULL, stop);
}
