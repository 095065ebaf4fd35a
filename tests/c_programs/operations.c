/* Every operation of hipcomm.h from a program without Python, under a launcher, on the CPU platform. Each rank compares
 * what it has received, element by element, and prints "rank R of W: ok". */
#include <hipcomm.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define CHECK(call)                                                                                         \
    do {                                                                                                    \
        const hipcommResult_t result_ = (call);                                                             \
        if (result_ != hipcommSuccess) {                                                                    \
            fprintf(stderr, "%s: %s: %s\n", #call, hipcommGetResultName(result_), hipcommGetLastError(comm)); \
            exit(3);                                                                                        \
        }                                                                                                   \
    } while (0)

#define EXPECT(condition)                                                   \
    do {                                                                    \
        if (!(condition)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(4);                                                        \
        }                                                                   \
    } while (0)

enum { kMost = 4, kCount = 600, kTokens = 11, kHidden = 96 };

static hipcommComm_t comm;
static int rank, world;

/* What rank r has at place i: another number on each rank, in each call. */
static int32_t value(int r, size_t i, int call) { return (int32_t)(1000 * (r + 1) + (int)(i % 97) + call); }

static int32_t send[kMost * kMost * kCount], recv[kMost * kMost * kCount];

static void prepare(int call) {
    for (size_t i = 0; i < sizeof send / sizeof *send; ++i) send[i] = value(rank, i, call);
    memset(recv, 0x5a, sizeof recv);
}

static void wait_for_results(void) { CHECK(hipcommStreamSynchronize(comm, NULL)); }

static int is_poison(int32_t word) { return word == 0x5a5a5a5a; }

static int32_t reduced(size_t i, int call, hipcommRedOp_t op) {
    int32_t result = value(0, i, call);
    for (int r = 1; r < world; ++r) {
        const int32_t next = value(r, i, call);
        if (op == hipcommSum) result += next;
        if (op == hipcommMax && next > result) result = next;
        if (op == hipcommMin && next < result) result = next;
    }
    return result;
}

static void reductions(void) {
    const hipcommRedOp_t ops[] = {hipcommSum, hipcommMax, hipcommMin};
    for (int call = 0; call < 3; ++call) {
        const hipcommRedOp_t op = ops[call];
        const int root = call % world;
        prepare(call);
        CHECK(hipcommAllReduce(send, recv, kCount, hipcommInt32, op, comm, NULL));
        wait_for_results();
        for (size_t i = 0; i < kCount; ++i) EXPECT(recv[i] == reduced(i, call, op));
        prepare(call + 10);
        CHECK(hipcommReduceScatter(send, recv, kCount, hipcommInt32, op, comm, NULL));
        wait_for_results();
        for (size_t i = 0; i < kCount; ++i) EXPECT(recv[i] == reduced((size_t)rank * kCount + i, call + 10, op));
        prepare(call + 20);
        CHECK(hipcommReduce(send, recv, kCount, hipcommInt32, op, root, comm, NULL));
        wait_for_results();
        for (size_t i = 0; i < kCount; ++i)
            EXPECT(rank == root ? recv[i] == reduced(i, call + 20, op) : is_poison(recv[i]));
        prepare(call + 30);
        const size_t rows = 6, part = 50;
        CHECK(hipcommReduceScatterRows(send, recv, rows, part, hipcommInt32, op, comm, NULL));
        wait_for_results();
        for (size_t row = 0; row < rows; ++row)
            for (size_t i = 0; i < part; ++i)
                EXPECT(recv[row * part + i] ==
                       reduced((row * (size_t)world + (size_t)rank) * part + i, call + 30, op));
    }
}

static void gathers(void) {
    prepare(40);
    CHECK(hipcommAllGather(send, recv, kCount, hipcommInt32, comm, NULL));
    wait_for_results();
    for (int r = 0; r < world; ++r)
        for (size_t i = 0; i < kCount; ++i) EXPECT(recv[(size_t)r * kCount + i] == value(r, i, 40));
    prepare(41);
    CHECK(hipcommAllGatherRows(send, recv, 6, 50, hipcommInt32, comm, NULL));
    wait_for_results();
    for (size_t row = 0; row < 6; ++row)
        for (int r = 0; r < world; ++r)
            for (size_t i = 0; i < 50; ++i)
                EXPECT(recv[(row * (size_t)world + (size_t)r) * 50 + i] == value(r, row * 50 + i, 41));
    size_t counts[kMost], displs[kMost];
    for (int r = 0; r < world; ++r) counts[r] = 100u * (size_t)r + 3, displs[r] = (size_t)r * kCount + 5;
    prepare(42);
    CHECK(hipcommAllGatherv(send, recv, counts, displs, hipcommInt32, comm, NULL));
    wait_for_results();
    for (int r = 0; r < world; ++r) {
        for (size_t i = 0; i < counts[r]; ++i) EXPECT(recv[displs[r] + i] == value(r, i, 42));
        EXPECT(is_poison(recv[displs[r] + counts[r]]));
    }
    for (int root = 0; root < world; ++root) {
        prepare(43 + root);
        CHECK(hipcommBroadcast(send, recv, kCount, hipcommInt32, root, comm, NULL));
        wait_for_results();
        for (size_t i = 0; i < kCount; ++i) EXPECT(recv[i] == value(root, i, 43 + root));
        prepare(53 + root);
        CHECK(hipcommGather(send, recv, kCount, hipcommInt32, root, comm, NULL));
        wait_for_results();
        for (int r = 0; r < world; ++r)
            for (size_t i = 0; i < kCount; ++i) {
                const int32_t got = recv[(size_t)r * kCount + i];
                EXPECT(rank == root ? got == value(r, i, 53 + root) : is_poison(got));
            }
        prepare(63 + root);
        CHECK(hipcommScatter(send, recv, kCount, hipcommInt32, root, comm, NULL));
        wait_for_results();
        for (size_t i = 0; i < kCount; ++i) EXPECT(recv[i] == value(root, (size_t)rank * kCount + i, 63 + root));
    }
}

static void exchanges(void) {
    prepare(70);
    CHECK(hipcommAllToAll(send, recv, kCount, hipcommInt32, comm, NULL));
    wait_for_results();
    for (int r = 0; r < world; ++r)
        for (size_t i = 0; i < kCount; ++i)
            EXPECT(recv[(size_t)r * kCount + i] == value(r, (size_t)rank * kCount + i, 70));
    /* rank s sends 10 s + r + 1 elements to rank r */
    size_t sent[kMost], received[kMost], from[kMost], to[kMost];
    for (int r = 0; r < world; ++r) {
        sent[r] = (size_t)(10 * rank + r + 1), received[r] = (size_t)(10 * r + rank + 1);
        from[r] = (size_t)r * kCount, to[r] = (size_t)(world - 1 - r) * kCount;
    }
    prepare(71);
    CHECK(hipcommAllToAllv(send, sent, from, recv, received, to, hipcommInt32, comm, NULL));
    wait_for_results();
    for (int r = 0; r < world; ++r) {
        for (size_t i = 0; i < received[r]; ++i) EXPECT(recv[to[r] + i] == value(r, (size_t)rank * kCount + i, 71));
        EXPECT(is_poison(recv[to[r] + received[r]]));
    }
    if (world > 1) {
        const int following = (rank + 1) % world, before = (rank + world - 1) % world;
        prepare(72);
        CHECK(hipcommGroupStart());
        CHECK(hipcommSend(send, kCount, hipcommInt32, following, comm, NULL));
        CHECK(hipcommRecv(recv, kCount, hipcommInt32, before, comm, NULL));
        CHECK(hipcommGroupEnd());
        wait_for_results();
        for (size_t i = 0; i < kCount; ++i) EXPECT(recv[i] == value(before, i, 72));
    }
    CHECK(hipcommBarrier(comm, NULL));
}

/* ---- norms --------------------------------------------------------------------------------------------------------*/

typedef float Rows[kTokens * kHidden];
typedef hipcommResult_t (*NormFunction)(const hipcommNorm*, hipcommComm_t, hipcommStream_t);

static Rows x, sum, residual, local_out, local_rows, out, rows_out;
static float weight[kHidden], bias[kHidden];
static unsigned char codes[2][kTokens * kHidden];
static float scales[2][kTokens];

/* Numbers whose sums over the ranks are rounded. */
static void fill_rows(void) {
    for (int i = 0; i < kTokens * kHidden; ++i) {
        x[i] = (float)((i * 7919 + rank * 104729) % 2003 - 1001) / 3.0f;
        residual[i] = (float)((i * 6007) % 1009 - 504) / 7.0f;
    }
    for (int i = 0; i < kHidden; ++i) weight[i] = (float)(i % 13) / 5.0f, bias[i] = (float)(i % 11) - 4.5f;
}

static hipcommNorm norm_of(const float* input, float* result, float* result_rows) {
    hipcommNorm norm = HIPCOMM_NORM_INITIALIZER;
    norm.tokens = kTokens, norm.hidden = kHidden, norm.dtype = hipcommFloat32, norm.eps = 1e-5, norm.weight_offset = 1;
    norm.x = input, norm.residual = residual, norm.weight = weight, norm.weight_dtype = hipcommFloat32;
    norm.out = result, norm.residual_out = result_rows;
    return norm;
}

static int same(const float* one, const float* other, size_t first, size_t count) {
    return memcmp(one + first * kHidden, other + first * kHidden, count * kHidden * sizeof *one) == 0;
}

static void poison(void) {
    memset(out, 0x5a, sizeof out);
    memset(rows_out, 0x5a, sizeof rows_out);
}

/* The fused operations give the bits of hipcommAllReduce and the local norm, and that is right where it is exact. */
static void norms_of_a_kind(NormFunction local, NormFunction fused, NormFunction scattered, int is_layer) {
    size_t first, count;
    CHECK(hipcommOwnRows(comm, kTokens, &first, &count));
    EXPECT(count == (size_t)(kTokens / world + (rank < kTokens % world)));
    hipcommQuantised quantised[2] = {HIPCOMM_QUANTISED_INITIALIZER, HIPCOMM_QUANTISED_INITIALIZER};
    for (int k = 0; k < 2; ++k) {
        quantised[k].format = hipcommFormatFp8PerToken, quantised[k].codes_dtype = hipcommFloat8E4M3FN;
        quantised[k].codes = codes[k], quantised[k].scales = scales[k];
    }
    uint64_t code_bytes, scale_bytes;
    CHECK(hipcommQuantisedBytes(quantised, kTokens, kHidden, &code_bytes, &scale_bytes));
    EXPECT(code_bytes == kHidden && scale_bytes == sizeof scales[0]);
    memset(codes, 0x5a, sizeof codes);
    memset(scales, 0x5a, sizeof scales);

    fill_rows();
    CHECK(hipcommAllReduce(x, sum, kTokens * kHidden, hipcommFloat32, hipcommSum, comm, NULL));
    hipcommNorm norm = norm_of(sum, local_out, local_rows);
    if (is_layer) norm.bias = bias, norm.bias_dtype = hipcommFloat32;
    norm.quantised = &quantised[0];
    CHECK(local(&norm, comm, NULL));

    poison();
    norm.x = x, norm.out = out, norm.residual_out = rows_out, norm.quantised = &quantised[1];
    CHECK(fused(&norm, comm, NULL));
    wait_for_results();
    EXPECT(same(out, local_out, 0, kTokens) && same(rows_out, local_rows, 0, kTokens));
    EXPECT(memcmp(codes[0], codes[1], sizeof codes[0]) == 0 && memcmp(scales[0], scales[1], sizeof scales[0]) == 0);

    poison(); /* residuals of a rank's own rows; the norm of all */
    norm.quantised = NULL, norm.sharded = 1;
    norm.residual = residual + first * kHidden, norm.residual_out = rows_out + first * kHidden;
    CHECK(fused(&norm, comm, NULL));
    wait_for_results();
    EXPECT(same(out, local_out, 0, kTokens) && same(rows_out, local_rows, first, count));

    poison(); /* everything of a rank's own rows; then gathered */
    norm.sharded = 0, norm.out = out + first * kHidden;
    CHECK(scattered(&norm, comm, NULL));
    hipcommTokens tokens = HIPCOMM_TOKENS_INITIALIZER;
    tokens.tokens = kTokens, tokens.hidden = kHidden, tokens.dtype = hipcommFloat32;
    tokens.part = out + first * kHidden, tokens.whole = out;
    CHECK(hipcommAllGatherTokens(&tokens, comm, NULL));
    wait_for_results();
    EXPECT(same(out, local_out, 0, kTokens) && same(rows_out, local_rows, first, count));
}

static void norms(void) {
    norms_of_a_kind(hipcommAddRmsNorm, hipcommAllReduceRmsNorm, hipcommReduceScatterRmsNorm, 0);
    norms_of_a_kind(hipcommAddLayerNorm, hipcommAllReduceLayerNorm, hipcommReduceScatterLayerNorm, 1);
    hipcommNorm norm = norm_of(x, out, NULL); /* a row of 2 and -2: its root mean square is 2 */
    norm.residual = NULL, norm.eps = 0, norm.weight_offset = 0;
    for (int i = 0; i < kTokens * kHidden; ++i) x[i] = i % 3 ? 2 : -2;
    CHECK(hipcommAddRmsNorm(&norm, comm, NULL));
    wait_for_results();
    for (int i = 0; i < kTokens * kHidden; ++i) EXPECT(out[i] == (i % 3 ? 1 : -1) * weight[i % kHidden]);
    norm.size = 8;
    EXPECT(hipcommAddRmsNorm(&norm, comm, NULL) == hipcommInvalidArgument);
}

/* Rows of q and k of which this rank has a part, all of 2 and -2; v is copied. */
static void a_norm_of_q_and_k(void) {
    enum { kOfQ = 64, kOfK = 20, kOfV = kHidden - kOfQ - kOfK };
    fill_rows();
    for (int i = 0; i < kTokens * kHidden; ++i) x[i] = i % kHidden >= kOfQ + kOfK ? x[i] : i % 3 ? 2 : -2;
    poison();
    hipcommQkNorm norm = HIPCOMM_QKNORM_INITIALIZER;
    norm.tokens = kTokens, norm.q_hidden = kOfQ, norm.k_hidden = kOfK, norm.v_hidden = kOfV, norm.dtype = hipcommFloat32;
    norm.q = x, norm.k = x + kOfQ, norm.v = x + kOfQ + kOfK;
    norm.q_out = out, norm.k_out = out + kOfQ, norm.v_out = out + kOfQ + kOfK;
    norm.q_stride = norm.k_stride = norm.v_stride = norm.q_out_stride = norm.k_out_stride = norm.v_out_stride = kHidden;
    norm.q_weight = weight, norm.q_weight_dtype = hipcommFloat32;
    CHECK(hipcommAllReduceQkNorm(&norm, comm, NULL));
    wait_for_results();
    for (int i = 0; i < kTokens * kHidden; ++i) {
        const int column = i % kHidden;
        EXPECT(out[i] == (column >= kOfQ + kOfK ? x[i] : (i % 3 ? 1 : -1) * (column < kOfQ ? weight[column] : 1)));
    }
    norm.k_out = NULL, norm.q_out = NULL;
    EXPECT(hipcommAllReduceQkNorm(&norm, comm, NULL) == hipcommInvalidArgument);
}

/* ---- what goes with them ------------------------------------------------------------------------------------------*/

static void count_lines(void* lines, const char* line) { *(int*)lines += strstr(line, "all_reduce") != NULL; }

static int go_on(void* calls) {
    ++*(int*)calls;
    return 0;
}

static void logged(void) {
    int lines = 0, calls = 0;
    CHECK(hipcommCommSetLog(comm, count_lines, &lines));
    CHECK(hipcommCommSetInterrupt(comm, go_on, &calls));
    CHECK(hipcommCommSetMemoryOrder(comm, 5));
    reductions();
    CHECK(hipcommCommSetMemoryOrder(comm, 0));
    CHECK(hipcommCommSetInterrupt(comm, NULL, NULL));
    CHECK(hipcommCommSetLog(comm, NULL, NULL));
    reductions();
    EXPECT(lines == 3);
}

static void a_group_that_is_dropped(void) {
    if (world == 1) return;
    CHECK(hipcommGroupStart());
    CHECK(hipcommSend(send, kCount, hipcommInt32, (rank + 1) % world, comm, NULL));
    CHECK(hipcommGroupCancel());
    exchanges(); /* nothing was sent */
}

/* The last rank ends the job once all others have left the calls before; they hear why. */
static void the_end(void) {
    const int last = world - 1;
    hipcommResult_t result = hipcommSuccess;
    CHECK(hipcommCommGetAsyncError(comm));
    EXPECT(hipcommCommFailedPeer(comm) == -1);
    if (rank == last) {
        for (int r = 0; r < last; ++r) CHECK(hipcommRecv(recv, 1, hipcommInt32, r, comm, NULL));
        CHECK(hipcommAbort(comm, "the last rank has had enough"));
    } else {
        result = hipcommSend(send, 1, hipcommInt32, last, comm, NULL);
    }
    for (int call = 0; call < 3 && result == hipcommSuccess; ++call) result = hipcommBarrier(comm, NULL);
    EXPECT(result == hipcommPeerDied && hipcommCommGetAsyncError(comm) == hipcommPeerDied);
    EXPECT(strstr(hipcommGetLastError(comm), "the last rank has had enough"));
    EXPECT(rank == last || hipcommCommFailedPeer(comm) == last);
}

int main(void) {
    hipcommSettings settings = HIPCOMM_SETTINGS_INITIALIZER;
    settings.check = 1;
    for (int round = 0; round < 2; ++round) {
        CHECK(round ? hipcommInitSettings(&comm, &settings) : hipcommInit(&comm));
        CHECK(hipcommUserRank(comm, &rank));
        CHECK(hipcommCount(comm, &world));
        EXPECT(world <= kMost);
        reductions();
        gathers();
        exchanges();
        norms();
        a_norm_of_q_and_k();
        logged();
        a_group_that_is_dropped();
        if (round) the_end();
        CHECK(hipcommDestroy(comm));
    }
    printf("rank %d of %d: ok\n", rank, world);
    return 0;
}
