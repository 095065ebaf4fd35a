/* An all-reduce over several nodes for programs in C, which carry the bytes between them; the contract and the ways are
 * those of docs/nodes.md, and hipcomm/nodes/composition.py has the same for Python. */
#include "failure.h"
#include "tables.h"

/* Up to here everything goes to everybody in one exchange: bytes of partial results. */
enum { kShortBytes = 64 * 1024, kMaxNodes = 256 };

static uint64_t padded(uint64_t bytes) { return (bytes + HIPCOMM_PACK_BYTES - 1) / HIPCOMM_PACK_BYTES * HIPCOMM_PACK_BYTES; }

/* What the call knows of itself. */
typedef struct Sum {
    const hipcommNodes* nodes;
    hipcommComm_t comm;
    hipcommStream_t stream;
    uint64_t count;
    hipcommDataType_t dtype, wide; /* of the elements, and in which they are combined */
    hipcommRedOp_t op, inside;     /* asked for, and within a node, where an average is not divided */
    uint64_t size, wide_size;      /* bytes of an element of each */
} Sum;

static bool is_narrow(const Sum* sum) { return sum->wide != sum->dtype; }

static Sum describe(const hipcommNodes* nodes, hipcommComm_t comm, uint64_t count, hipcommDataType_t dtype,
                    hipcommRedOp_t op, hipcommStream_t stream) {
    const bool narrow = dtype == hipcommFloat16 || dtype == hipcommBfloat16 || dtype_is_float8(dtype);
    Sum sum = {.nodes = nodes, .comm = comm, .stream = stream, .count = count, .dtype = dtype, .op = op};
    sum.wide = narrow ? hipcommFloat32 : dtype;
    sum.inside = op == hipcommAvg ? hipcommSum : op;
    sum.size = dtype_size(dtype);
    sum.wide_size = dtype_size(sum.wide);
    return sum;
}

/* The elements that one rank of the world finishes; shares are whole packs, unless the message is whole shares. */
static uint64_t share_of(const Sum* sum) {
    const uint64_t ranks = (uint64_t)sum->nodes->num_nodes * sum->comm->args.world;
    const uint64_t share = (sum->count + ranks - 1) / ranks;
    return share * ranks == sum->count ? share : padded(share * sum->size) / sum->size;
}

/* A maximum of narrow floats is widened before, which only the short way does. */
static bool is_short(const Sum* sum) {
    const bool extreme = sum->op == hipcommMax || sum->op == hipcommMin;
    return sum->count * sum->wide_size <= kShortBytes || (is_narrow(sum) && extreme && !dtype_is_float8(sum->dtype));
}

static uint64_t scratch_bytes(const Sum* sum) {
    const uint64_t nodes = (uint64_t)sum->nodes->num_nodes, share = share_of(sum);
    if (is_short(sum)) return nodes * padded(sum->count * sum->wide_size);
    return padded(share * nodes * sum->comm->args.world * sum->size) + padded(share * nodes * sum->wide_size) +
           nodes * padded(share * sum->wide_size);
}

static hipcommResult_t refuse(hipcommComm_t comm, const char* problem) {
    return set_error(comm, hipcommInvalidArgument, "rank %u: all_reduce over nodes: %s", comm->args.rank, problem);
}

static hipcommResult_t check(const Sum* sum) {
    const hipcommNodes* nodes = sum->nodes;
    if (!nodes || nodes->size != sizeof *nodes) return refuse(sum->comm, "hipcommNodes is NULL or of another version");
    if (nodes->num_nodes < 2 || nodes->num_nodes > kMaxNodes || nodes->node < 0 || nodes->node >= nodes->num_nodes)
        return refuse(sum->comm, "no such node");
    if (!dtype_is_valid((int)sum->dtype) || !redop_is_valid((int)sum->op)) return refuse(sum->comm, "no such dtype or reduction");
    if (sum->count > HIPCOMM_MAX_MESSAGE_BYTES / sum->wide_size / kMaxNodes / 4) return refuse(sum->comm, "no such count");
    return hipcommSuccess;
}

/* Have the program move what begins at send, and what goes to recv: `sent` and `received` bytes from a node's to the
 * next one's, `bytes` of each. */
static hipcommResult_t exchange(const Sum* sum, char* send, uint64_t sent, char* recv, uint64_t received, uint64_t bytes) {
    const hipcommNodes* nodes = sum->nodes;
    hipcommTransfer sends[kMaxNodes], receives[kMaxNodes];
    int count = 0;
    for (int node = 0; node < nodes->num_nodes; ++node) {
        if (node == nodes->node) continue;
        sends[count] = (hipcommTransfer){node, send + (uint64_t)node * sent, bytes};
        receives[count++] = (hipcommTransfer){node, recv + (uint64_t)node * received, bytes};
    }
    const int failed = nodes->exchange(nodes->context, sends, receives, count, sum->stream);
    if (!failed) return hipcommSuccess;
    const hipcommResult_t result =
        set_error(sum->comm, hipcommPlatformError, "rank %u: all_reduce over nodes: the program's exchange returned %d",
                  sum->comm->args.rank, failed);
    hipcommCommAbort(sum->comm, result, -1, sum->comm->error);
    return result;
}

static hipcommResult_t finish(const Sum* sum, const char* own, const char* partials, uint64_t stride, char* recv,
                              uint64_t count) {
    const hipcommPartials given = {own, partials, stride, (uint32_t)sum->nodes->num_nodes, (uint32_t)sum->nodes->node,
                                   (uint32_t)sum->nodes->num_nodes * sum->comm->args.world};
    return hipcommCommFinish(sum->comm, &given, recv, count, sum->dtype, sum->op, sum->stream);
}

/* Everything to the rank of the same number on every node. */
static hipcommResult_t run_short(const Sum* sum, const char* send, char* recv) {
    const uint64_t bytes = sum->count * sum->wide_size, stride = padded(bytes);
    char *partials = sum->nodes->scratch, *own = partials + (uint64_t)sum->nodes->node * stride;
    hipcommResult_t result = hipcommSuccess;
    if (is_narrow(sum)) {
        result = hipcommCommWiden(sum->comm, send, own, sum->count, sum->dtype, sum->stream);
        send = own;
    }
    if (result == hipcommSuccess)
        result = hipcommAllReduce(send, own, sum->count, sum->wide, sum->inside, sum->comm, sum->stream);
    if (result == hipcommSuccess) result = exchange(sum, own, 0, partials, stride, bytes);
    return result == hipcommSuccess ? finish(sum, own, partials, stride, recv, sum->count) : result;
}

/* A share to each rank of the world: number rank * nodes + node. Buffers may be the same. */
static hipcommResult_t run_shares(const Sum* sum, const char* send, char* recv, char* mine) {
    const uint64_t nodes = (uint64_t)sum->nodes->num_nodes, share = share_of(sum), of_rank = nodes * share;
    const uint64_t wide = share * sum->wide_size, bytes = share * sum->size, stride = padded(wide);
    char* const partials = mine + padded(nodes * wide);
    char* const first = recv + sum->comm->args.rank * nodes * bytes;
    char* const place = first + (uint64_t)sum->nodes->node * bytes;
    hipcommResult_t result =
        is_narrow(sum)
            ? hipcommCommReduceScatterPartial(sum->comm, send, mine, 1, of_rank, sum->dtype, sum->op, sum->stream)
            : hipcommReduceScatter(send, mine, of_rank, sum->dtype, sum->inside, sum->comm, sum->stream);
    if (result == hipcommSuccess) result = exchange(sum, mine, wide, partials, stride, wide);
    if (result == hipcommSuccess)
        result = finish(sum, mine + (uint64_t)sum->nodes->node * wide, partials, stride, place, share);
    if (result == hipcommSuccess) result = exchange(sum, place, 0, first, bytes, bytes);
    return result == hipcommSuccess ? hipcommAllGather(first, recv, of_rank, sum->dtype, sum->comm, sum->stream) : result;
}

static hipcommResult_t copy(const Sum* sum, const char* from, char* to) {
    const uint64_t bytes = sum->count * sum->size;
    return hipcommCommCopyRows(sum->comm, from, bytes, to, bytes, bytes, 1, sum->stream);
}

static hipcommResult_t run_long(const Sum* sum, const char* send, char* recv) {
    const uint64_t ranks = (uint64_t)sum->nodes->num_nodes * sum->comm->args.world;
    char *whole = sum->nodes->scratch, *mine = whole + padded(share_of(sum) * ranks * sum->size);
    if (share_of(sum) * ranks == sum->count) return run_shares(sum, send, recv, mine);
    hipcommResult_t result = copy(sum, send, whole);
    if (result == hipcommSuccess) result = run_shares(sum, whole, whole, mine);
    return result == hipcommSuccess ? copy(sum, whole, recv) : result;
}

hipcommResult_t hipcommNodesScratch(const hipcommNodes* nodes, size_t count, hipcommDataType_t dtype, hipcommRedOp_t op,
                                    hipcommComm_t comm, size_t* bytes) {
    if (!is_live(comm)) return no_comm();
    const Sum sum = describe(nodes, comm, count, dtype, op, NULL);
    const hipcommResult_t result = check(&sum);
    if (result != hipcommSuccess) return result;
    if (!bytes) return refuse(comm, "bytes is NULL");
    *bytes = scratch_bytes(&sum);
    return hipcommSuccess;
}

hipcommResult_t hipcommNodesAllReduce(const void* sendbuf, void* recvbuf, size_t count, hipcommDataType_t dtype,
                                      hipcommRedOp_t op, const hipcommNodes* nodes, hipcommComm_t comm,
                                      hipcommStream_t stream) {
    if (!is_live(comm)) return no_comm();
    const Sum sum = describe(nodes, comm, count, dtype, op, stream);
    const hipcommResult_t result = check(&sum);
    if (result != hipcommSuccess) return result;
    if (!nodes->exchange) return refuse(comm, "there is no exchange");
    if (count == 0) return hipcommSuccess;
    if (!sendbuf || !recvbuf) return refuse(comm, "a buffer is NULL");
    const char *send = sendbuf, *recv = recvbuf;
    if (send != recv && send < recv + count * sum.size && recv < send + count * sum.size)
        return refuse(comm, "sendbuf and recvbuf overlap without being the same");
    if (!nodes->scratch || nodes->scratch_bytes < scratch_bytes(&sum)) return refuse(comm, "scratch is too small");
    return is_short(&sum) ? run_short(&sum, send, recvbuf) : run_long(&sum, send, recvbuf);
}
