/* A rank in C of an all-reduce over several nodes, whose bytes MPI carries: nodes DIRECTORY FAILS [DTYPE OP COUNT]...
 * Case after case it reads DIRECTORY/in.CASE.RANK and writes DIRECTORY/out.CASE.RANK. FAILS: 1: the exchange fails. */
#include <hipcomm.h>
#include <mpi.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call)                                                                                     \
    do {                                                                                                \
        const hipcommResult_t checked = (call);                                                         \
        if (checked != hipcommSuccess) {                                                                \
            fprintf(stderr, "%s: %d: %s\n", #call, (int)checked, hipcommGetLastError(comm));             \
            return 1;                                                                                   \
        }                                                                                               \
    } while (0)

/* What the exchange needs: the ranks of this number on all nodes, by node. */
typedef struct {
    MPI_Comm rail;
    int fails;
} Rail;

static int exchange(void* context, const hipcommTransfer* sends, const hipcommTransfer* receives, int count,
                    hipcommStream_t stream) {
    const Rail* rail = context;
    MPI_Request requests[16];
    int i;
    (void)stream; /* of the CPU platform: what came before has happened */
    if (rail->fails) return 42;
    for (i = 0; i < count; ++i) {
        MPI_Irecv(receives[i].address, (int)receives[i].bytes, MPI_BYTE, receives[i].node, 0, rail->rail, &requests[2 * i]);
        MPI_Isend(sends[i].address, (int)sends[i].bytes, MPI_BYTE, sends[i].node, 0, rail->rail, &requests[2 * i + 1]);
    }
    return MPI_Waitall(2 * count, requests, MPI_STATUSES_IGNORE);
}

static int run_case(const char* directory, int number, int rank, hipcommDataType_t dtype, hipcommRedOp_t op, size_t count,
                    hipcommNodes* nodes, hipcommComm_t comm) {
    size_t bytes, scratch;
    char path[512], *send, *recv;
    FILE* file;

    snprintf(path, sizeof path, "%s/in.%d.%d", directory, number, rank);
    file = fopen(path, "rb");
    if (!file) return 1;
    fseek(file, 0, SEEK_END);
    bytes = (size_t)ftell(file);
    rewind(file);
    send = malloc(bytes + 1);
    recv = malloc(bytes + 1);
    if (fread(send, 1, bytes, file) != bytes) return 1;
    fclose(file);

    nodes->scratch = NULL;
    nodes->scratch_bytes = 0;
    if (hipcommNodesAllReduce(send, recv, count, dtype, op, nodes, comm, NULL) != hipcommInvalidArgument ||
        !strstr(hipcommGetLastError(comm), "scratch is too small"))
        return 1;
    CHECK(hipcommNodesScratch(nodes, count, dtype, op, comm, &scratch));
    nodes->scratch = aligned_alloc(16, scratch);
    nodes->scratch_bytes = scratch;
    memset(recv, 0xa5, bytes);
    CHECK(hipcommNodesAllReduce(send, recv, count, dtype, op, nodes, comm, NULL));
    CHECK(hipcommNodesAllReduce(send, send, count, dtype, op, nodes, comm, NULL)); /* in place */
    if (memcmp(send, recv, bytes) != 0) return 1;
    snprintf(path, sizeof path, "%s/out.%d.%d", directory, number, rank);
    file = fopen(path, "wb");
    if (!file) return 1;
    fwrite(recv, 1, bytes, file);
    fclose(file);
    free(send);
    free(recv);
    free(nodes->scratch);
    return 0;
}

int main(int argc, char** argv) {
    hipcommComm_t comm = NULL;
    hipcommUniqueId id;
    hipcommNodes nodes = HIPCOMM_NODES_INITIALIZER;
    Rail rail = {MPI_COMM_NULL, atoi(argv[2])};
    MPI_Comm node;
    int rank, local, size, i;

    MPI_Init(&argc, &argv);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, rank, MPI_INFO_NULL, &node);
    MPI_Comm_rank(node, &local);
    MPI_Comm_size(node, &size);
    MPI_Comm_split(MPI_COMM_WORLD, local, rank, &rail.rail);
    MPI_Comm_rank(rail.rail, &nodes.node);
    MPI_Comm_size(rail.rail, &nodes.num_nodes);
    nodes.exchange = exchange;
    nodes.context = &rail;

    if (local == 0) CHECK(hipcommGetUniqueId(&id));
    MPI_Bcast(&id, sizeof id, MPI_BYTE, 0, node);
    CHECK(hipcommInitRank(&comm, size, id, local, NULL));
    for (i = 3; i + 2 < argc; i += 3)
        if (run_case(argv[1], i / 3 - 1, rank, (hipcommDataType_t)atoi(argv[i]), (hipcommRedOp_t)atoi(argv[i + 1]),
                     (size_t)atol(argv[i + 2]), &nodes, comm))
            return 1;
    CHECK(hipcommDestroy(comm));
    return MPI_Finalize();
}
