/* Residual and norm, without communication: a block takes every blocks-th row. */
#include "epilogue.h"

/* This rank's own rows: nothing is waited for. */
template <class T>
struct OwnRow {
    const hipcommNormArgs& args;
    const uint64_t row;
    static constexpr bool kWithResidual = false;

    DEVICE_MEMBER void load(uint32_t i, Slice<T>& sum) const {
        load_slice(row_of<T>(args.common.send, args.x_stride, row, args.hidden), i, sum);
    }
    DEVICE_MEMBER bool failed() const { return false; }
    DEVICE_MEMBER void keep(uint32_t, const Slice<T>&) const {}
    DEVICE_MEMBER void again(uint32_t i, Slice<T>& v) const {
        load(i, v);
        add_residual_slice(args, row, i, v);
    }
};

template <class T, Norm kNorm>
DEVICE void add_norm(const hipcommNormArgs& args, const Geometry& g) {
    RowMemory memory = row_memory(g);
    for (uint64_t row = args.first + g.block; row < args.first + args.count; row += g.blocks)
        finish_row<T, kNorm>(memory, args, row, OwnRow<T>{args, row});
}

NORM_KERNELS(add_norm, HIPCOMM_MAX_THREADS)
