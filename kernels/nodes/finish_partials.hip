/* Of a world over several nodes, on one rank and without any other: combine the nodes' partial results in node order,
 * divide an average, and round, once (docs/nodes.md). Partial results are of the type that elements accumulate in. */
#include "../data/pack.h"
#include "../numbers/reduce_run.h"
#include "../numbers/reduction_kernels.h"

/* The type of partial results of elements of T. */
template <class T>
struct PartialOf {
    using Type = Accumulated<T>;
};
template <>
struct PartialOf<Float8> {
    using Type = float;
};

/* The packs of partial results that belong to one pack of elements. */
template <class T>
struct Widened {
    static constexpr uint32_t kElements = HIPCOMM_PACK_BYTES / sizeof(T);
    typename PartialOf<T>::Type at[kElements];
    static constexpr uint32_t kPacks = sizeof(at) / HIPCOMM_PACK_BYTES;
};

/* Two partial results of an element. */
template <class T, class Op>
DEVICE typename PartialOf<T>::Type combine_partials(typename PartialOf<T>::Type a, typename PartialOf<T>::Type b,
                                                    const hipcommKernelArgs& args) {
    if constexpr (kChosenByType<Op>) {
        return Op::template combine<T>(a, b);
    } else { /* as in Reduction<Float8, AnyOperation> */
        const uint32_t reduction = in_vector_register(reload_args(args).float8.reduction);
        const float extreme = reduction == hipcommReductionMax ? Max::combine<float>(a, b) : Min::combine<float>(a, b);
        const float ordered = reduction == hipcommReductionProd ? Prod::combine<float>(a, b) : extreme;
        return reduction == hipcommReductionSum ? Sum::combine<float>(a, b) : ordered;
    }
}

DEVICE const char* partial_of(const hipcommPartialsArgs& args, uint32_t node) {
    return node == args.node ? args.own : static_cast<const char*>(args.common.send) + node * args.stride;
}

template <class T>
DEVICE Widened<T> load_partial(const hipcommPartialsArgs& args, uint32_t node, uint64_t index) {
    constexpr uint64_t kRatio = sizeof(typename PartialOf<T>::Type) / sizeof(T);
    const Message from = message(partial_of(args, node), args.common.bytes * kRatio);
    Pack packs[Widened<T>::kPacks]{};
    UNROLL(4)
    for (uint32_t i = 0; i < Widened<T>::kPacks; ++i)
        if (const uint64_t at = index * Widened<T>::kPacks + i; at < packs_of(from.bytes)) packs[i] = load_message(from, at);
    return __builtin_bit_cast(Widened<T>, packs);
}

template <class T, class Op>
DEVICE void finish_packs(const hipcommPartialsArgs& args, const Geometry& g) {
    const hipcommKernelArgs& common = args.common;
    const Message to = message(common.recv, common.bytes);
    const uint64_t first = uint64_t(g.block) * g.threads + g.thread, stride = uint64_t(g.blocks) * g.threads;
    NO_UNROLL
    for (uint64_t i = first; i < packs_of(common.bytes); i += stride) {
        Reduction<T, Op> reduction;
        NO_UNROLL
        for (uint32_t node = 0; node < args.nodes; ++node) {
            const Widened<T> partial = load_partial<T>(args, node, i);
            UNROLL(16)
            for (uint32_t e = 0; e < Widened<T>::kElements; ++e)
                reduction.total[e] = node == 0 ? partial.at[e] : combine_partials<T, Op>(reduction.total[e], partial.at[e], common);
        }
        store_message(to, i, reduction.finish(common));
    }
}

/* One thread: in tiles whose totals stay in the first-level cache, and loops that become vector code. */
template <class T, class Op>
DEVICE void finish_run(const hipcommPartialsArgs& args, const Geometry& g) {
    using A = Accumulated<T>;
    alignas(64) A total[kRunElements];
    const uint64_t count = args.common.bytes / sizeof(T);
    for (uint64_t begin = uint64_t(g.block) * kRunElements; begin < count; begin += uint64_t(g.blocks) * kRunElements) {
        const uint32_t elements = count - begin < kRunElements ? uint32_t(count - begin) : kRunElements;
        const auto partial = [&](uint32_t node) {
            return reinterpret_cast<const Anywhere<A>*>(partial_of(args, node)) + begin;
        };
        const auto *a = partial(0), *b = partial(1);
        auto* out = static_cast<Anywhere<T>*>(args.common.recv) + begin;
        for (uint32_t i = 0; i < elements; ++i) total[i] = Op::template combine<T>(a[i].value, b[i].value);
        for (uint32_t node = 2; node < args.nodes; ++node) {
            const auto* next = partial(node);
            for (uint32_t i = 0; i < elements; ++i) total[i] = Op::template combine<T>(total[i], next[i].value);
        }
        if (args.common.average)
            for (uint32_t i = 0; i < elements; ++i) total[i] = divide<T>(total[i], args.common.world);
        for (uint32_t i = 0; i < elements; ++i) out[i].value = narrow_to(total[i], static_cast<T*>(nullptr));
    }
}

template <class T, class Op>
DEVICE void finish_partials(const hipcommPartialsArgs& args, const Geometry& g) {
    if constexpr (kOneThread && kChosenByType<Op>)
        finish_run<T, Op>(args, g);
    else
        finish_packs<T, Op>(args, g);
}

REDUCTION_KERNELS(finish_partials, hipcommPartialsArgs, HIPCOMM_MAX_LOCAL_THREADS)
