/* comm.c - what ranks do over any communicator. */
#include "src/backend/backend.h"

aiinfra_status aii_comm_agree(aii_comm *comm, aiinfra_status mine, aiinfra_error *err)
{
  float failed = mine != AIINFRA_OK;
  aiinfra_error why;
  aiinfra_status rc = comm->ops->sum(comm, &failed, 1, &why);
  if (rc != AIINFRA_OK) return aii_fail(err, rc, "%s", why.message);
  if (mine == AIINFRA_OK && failed > 0)
    return aii_fail(err, AIINFRA_EDEVICE, "%.0f of %u ranks failed where this one did not: see what they say",
                    (double)failed, comm->size);
  return mine;
}
