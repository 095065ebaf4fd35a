/* What one rank of a world over nodes does alone, in stream order, around its calls within the node and the exchange
 * between nodes: elements into the type that they accumulate in, copies in rows, and a count of what has been passed. */
#include "../data/rows.h"
#include "../numbers/float8.h"

/* common.send: `bytes` bytes of elements; common.recv: as many elements of the accumulator's type. */
template <class T>
DEVICE float widen_element(T element, const hipcommKernelArgs&) {
    return widen(element);
}
DEVICE float widen_element(uint8_t element, const hipcommKernelArgs& args) {
    return widen_float8(element, float8_format(args));
}

template <class T>
DEVICE void widen_elements(const hipcommKernelArgs& args, const Geometry& g) {
    constexpr uint32_t kElements = HIPCOMM_PACK_BYTES / sizeof(T), kWider = sizeof(float) / sizeof(T);
    const Message from = message(args.send, args.bytes), to = message(args.recv, args.bytes * kWider);
    const uint64_t first = uint64_t(g.block) * g.threads + g.thread, stride = uint64_t(g.blocks) * g.threads;
    NO_UNROLL
    for (uint64_t i = first; i < packs_of(from.bytes); i += stride) {
        struct Elements {
            T at[kElements];
        };
        struct Wide {
            float at[kElements];
        };
        struct Packs {
            Pack at[kWider];
        };
        const Elements elements = __builtin_bit_cast(Elements, load_message(from, i));
        Wide wide;
        UNROLL(16)
        for (uint32_t e = 0; e < kElements; ++e) wide.at[e] = widen_element(elements.at[e], args);
        const Packs packs = __builtin_bit_cast(Packs, wide);
        UNROLL(4)
        for (uint32_t p = 0; p < kWider; ++p)
            if (i * kWider + p < packs_of(to.bytes)) store_message(to, i * kWider + p, packs.at[p]);
    }
}

KERNEL(hipcomm_widen_float16, widen_elements<float16>, hipcommKernelArgs, HIPCOMM_MAX_LOCAL_THREADS)
KERNEL(hipcomm_widen_bfloat16, widen_elements<bfloat16>, hipcommKernelArgs, HIPCOMM_MAX_LOCAL_THREADS)
KERNEL(hipcomm_widen_float8, widen_elements<uint8_t>, hipcommKernelArgs, HIPCOMM_MAX_LOCAL_THREADS)

DEVICE void copy_rows(const hipcommRowsArgs& args, const Geometry& g) {
    const hipcommKernelArgs& common = args.common;
    if constexpr (kOneThread) {
        const auto* from = static_cast<const char*>(common.send);
        auto* to = static_cast<char*>(common.recv);
        for (uint64_t done = 0; done < common.bytes; done += args.row_bytes) {
            __builtin_memcpy(to, from, args.row_bytes);
            from += args.send_stride;
            to += args.recv_stride;
        }
        return;
    }
    const Rows from = rows(common.send, common.bytes, args.row_bytes, args.send_stride);
    const Rows to = rows(common.recv, common.bytes, args.row_bytes, args.recv_stride);
    const uint64_t first = uint64_t(g.block) * g.threads + g.thread, stride = uint64_t(g.blocks) * g.threads;
    NO_UNROLL
    for (uint64_t i = first; i < packs_of(common.bytes); i += stride) store_rows(to, i, load_rows(from, i));
}

KERNEL(hipcomm_copy_rows, copy_rows, hipcommRowsArgs, HIPCOMM_MAX_LOCAL_THREADS)

/* One thread: the host sees how far the stream has come, also where the launch is replayed with a graph. */
DEVICE void count_up(const hipcommKernelArgs& args, const Geometry& g) {
    auto* count = static_cast<uint64_t*>(args.recv);
    if (g.thread == 0 && g.block == 0) store_relaxed(count, load_relaxed(count) + 1);
}

KERNEL(hipcomm_count_up, count_up, hipcommKernelArgs, HIPCOMM_MAX_LOCAL_THREADS)
