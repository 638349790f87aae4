/* aiinfra.h - the whole library: models, KV cache, batcher, evaluator, vector store, memory, agents, server.
 *
 * One thread owns a runtime: the one that runs its loop. Functions marked "Thread: loop" are called there; those
 * marked "Thread: any" from anywhere. A callback never runs inside the call that asked for it.
 *
 * Start with aiinfra_runtime_create(), open a model, give it a KV cache and a batcher, submit requests to it.
 */
#ifndef AIINFRA_H
#define AIINFRA_H

#include "aiinfra/types.h"

#include "aiinfra/request.h"
#include "aiinfra/runtime.h"

#include "aiinfra/model.h"

#include "aiinfra/imatrix.h"
#include "aiinfra/convert.h"

#include "aiinfra/kv.h"

#include "aiinfra/batcher.h"

#include "aiinfra/eval.h"

#include "aiinfra/db.h"

#include "aiinfra/vecstore.h"

#include "aiinfra/memory.h"

#include "aiinfra/cache.h"

#include "aiinfra/agent.h"

#include "aiinfra/server.h"

#endif
