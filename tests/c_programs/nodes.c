/* A rank in C of an all-reduce over several nodes, whose bytes MPI carries: nodes DIRECTORY DTYPE OP COUNT.
 * Reads DIRECTORY/in.RANK, once more in place, writes DIRECTORY/out.RANK; argument "fail": the exchange fails. */
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

int main(int argc, char** argv) {
    hipcommComm_t comm = NULL;
    hipcommUniqueId id;
    hipcommNodes nodes = HIPCOMM_NODES_INITIALIZER;
    Rail rail = {MPI_COMM_NULL, argc > 5};
    MPI_Comm node;
    int rank, local, size;
    size_t count, bytes, scratch;
    char path[512], *send, *recv;
    FILE* file;

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

    count = (size_t)atol(argv[4]);
    snprintf(path, sizeof path, "%s/in.%d", argv[1], rank);
    file = fopen(path, "rb");
    fseek(file, 0, SEEK_END);
    bytes = (size_t)ftell(file);
    rewind(file);
    send = malloc(bytes + 1);
    recv = malloc(bytes + 1);
    if (fread(send, 1, bytes, file) != bytes) return 1;
    fclose(file);

    if (hipcommNodesAllReduce(send, recv, count, (hipcommDataType_t)atoi(argv[2]), (hipcommRedOp_t)atoi(argv[3]), &nodes,
                              comm, NULL) != hipcommInvalidArgument ||
        !strstr(hipcommGetLastError(comm), "scratch is too small"))
        return 1;
    CHECK(hipcommNodesScratch(&nodes, count, (hipcommDataType_t)atoi(argv[2]), (hipcommRedOp_t)atoi(argv[3]), comm, &scratch));
    nodes.scratch = aligned_alloc(16, scratch);
    nodes.scratch_bytes = scratch;
    memset(recv, 0xa5, bytes);
    CHECK(hipcommNodesAllReduce(send, recv, count, (hipcommDataType_t)atoi(argv[2]), (hipcommRedOp_t)atoi(argv[3]), &nodes,
                                comm, NULL));
    CHECK(hipcommNodesAllReduce(send, send, count, (hipcommDataType_t)atoi(argv[2]), (hipcommRedOp_t)atoi(argv[3]), &nodes,
                                comm, NULL));
    if (memcmp(send, recv, bytes) != 0) return 1;
    snprintf(path, sizeof path, "%s/out.%d", argv[1], rank);
    file = fopen(path, "wb");
    fwrite(recv, 1, bytes, file);
    fclose(file);
    CHECK(hipcommDestroy(comm));
    return MPI_Finalize();
}
