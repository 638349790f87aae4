// hello.cc - C++: the handles of the library in std::unique_ptr, a lambda for the tokens. After `make install`:
//
//   c++ -std=c++11 hello.cc $(pkg-config --cflags --libs aiinfra) -o hello
#include <aiinfra.h>

#include <cstdio>
#include <memory>
#include <stdexcept>

template <typename T, void (*Free)(T *)> struct Deleter {
  void operator()(T *p) const
  {
    Free(p);
  }
};
using Runtime = std::unique_ptr<aiinfra_runtime, Deleter<aiinfra_runtime, aiinfra_runtime_free>>;
using Model = std::unique_ptr<aiinfra_model, Deleter<aiinfra_model, aiinfra_model_free>>;
using Kv = std::unique_ptr<aiinfra_kv, Deleter<aiinfra_kv, aiinfra_kv_free>>;
using Batcher = std::unique_ptr<aiinfra_batcher, Deleter<aiinfra_batcher, aiinfra_batcher_free>>;
using Request = std::unique_ptr<aiinfra_request, Deleter<aiinfra_request, aiinfra_request_free>>;

// Calls create(&pointer, &error) and owns what comes out.
template <typename Owner, typename Create> Owner make(Create create)
{
  typename Owner::pointer p = nullptr;
  aiinfra_error err;
  if (create(&p, &err) != AIINFRA_OK) throw std::runtime_error(err.message);
  return Owner(p);
}

static void hello(const char *path)
{
  Runtime runtime =
      make<Runtime>([](aiinfra_runtime **p, aiinfra_error *e) { return aiinfra_runtime_create(nullptr, p, e); });
  Model model = make<Model>(
      [&](aiinfra_model **p, aiinfra_error *e) { return aiinfra_model_open(runtime.get(), path, nullptr, p, e); });
  Kv kv = make<Kv>([&](aiinfra_kv **p, aiinfra_error *e) { return aiinfra_kv_create(model.get(), nullptr, p, e); });
  Batcher batcher = make<Batcher>([&](aiinfra_batcher **p, aiinfra_error *e) {
    return aiinfra_batcher_create(model.get(), kv.get(), nullptr, p, e);
  });

  aiinfra_generate_opts opts = AIINFRA_GENERATE_OPTS_INIT;
  opts.messages_json = "[{\"role\": \"user\", \"content\": \"Hello!\"}]";
  opts.max_tokens = 32;
  auto print = [](void *, const aiinfra_chunk *chunk) { std::fwrite(chunk->text, 1, chunk->n_bytes, stdout); };
  Request request = make<Request>([&](aiinfra_request **p, aiinfra_error *e) {
    return aiinfra_batcher_generate(batcher.get(), &opts, print, nullptr, nullptr, p, e);
  });
  aiinfra_status status = aiinfra_request_wait(request.get(), -1, nullptr);
  if (status != AIINFRA_OK) throw std::runtime_error(aiinfra_status_text(status));
  std::printf("\n");
}

int main(int argc, char **argv)
{
  if (argc < 2) return std::fprintf(stderr, "usage: hello MODEL.gguf\n"), 2;
  try {
    hello(argv[1]);
  } catch (const std::exception &e) {
    std::fprintf(stderr, "hello: %s\n", e.what());
    return 1;
  }
  return 0;
}
