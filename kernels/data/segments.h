/* Segments: what a rank exchanges with each other rank, where that differs from peer to peer. */
#pragma once

#include "../launch/line.h"
#include "rows.h"

/* The arguments of a launch of a kernel that takes hipcommSegmentArgs. */
DEVICE const hipcommSegmentArgs& segment_args(const Launch& launch) {
    return reinterpret_cast<const hipcommSegmentArgs&>(launch.args); /* its first member */
}

DEVICE Message send_segment(const Launch& launch, uint32_t peer) {
    const hipcommSegment& segment = segment_args(launch).segments[peer];
    return message(static_cast<const char*>(launch.args.send) + segment.send_offset, segment.send_bytes);
}
DEVICE Message recv_segment(const Launch& launch, uint32_t peer) {
    const hipcommSegment& segment = segment_args(launch).segments[peer];
    return message(static_cast<const char*>(launch.args.recv) + segment.recv_offset, segment.recv_bytes);
}

/* The same, in the rows that the arguments describe. */
DEVICE Rows in_rows(const Launch& launch, const Message& segment) {
    return rows(segment.base, segment.bytes, segment_args(launch).row_bytes, segment_args(launch).row_stride);
}

/* Flag-in-data: packs of a segment of `bytes` bytes that this launch moves. */
DEVICE uint32_t packs_of_launch(const Launch& launch, uint64_t bytes) {
    const hipcommSegmentArgs& args = segment_args(launch);
    const uint64_t packs = packs_of(bytes);
    const uint64_t left = packs > args.first_pack ? packs - args.first_pack : 0;
    return uint32_t(left < args.most_packs ? left : args.most_packs);
}

/* Where line `line` of this launch's lines from `sender` arrives. Every sender has the same share of the lines,
 * for nobody knows how much others send. */
template <uint32_t kPacks>
DEVICE uint64_t segment_line(const Launch& launch, uint32_t sender, uint32_t line) {
    const uint64_t lines = launch.args.line_capacity / (kLineBytesOf<kPacks * kPackWords> / HIPCOMM_LINE_BYTES);
    return sender * (lines / launch.args.world) + line;
}

/* Packs of step `step` of this block, of a segment; none if the segment is too short to have it. */
DEVICE Chunk chunk_of_segment(const Launch& launch, uint64_t segment_packs, uint32_t step) {
    const hipcommKernelArgs& args = launch.args;
    const uint64_t first = (uint64_t(step) * args.blocks + launch.geometry.block) * args.chunk_packs;
    const uint64_t left = segment_packs > first ? segment_packs - first : 0;
    return {first, left < args.chunk_packs ? uint32_t(left) : args.chunk_packs};
}

/* A cell of a staging slab: `cells` of one chunk each make a slot of a block, in a ring of `ring` slots. The slab
 * exists twice, by the parity of the epoch. */
struct SegmentCells {
    const Launch& launch;
    const uint32_t ring;
    const uint32_t cells;

    DEVICE_MEMBER char* cell(uint32_t rank, uint32_t step, uint32_t number) const {
        const hipcommKernelArgs& args = launch.args;
        const uint64_t slot = uint64_t(step % ring) * args.blocks + launch.geometry.block;
        return args.staging[rank] + launch.parity() * args.staging_bytes +
               (slot * cells + number) * args.chunk_packs * HIPCOMM_PACK_BYTES;
    }
};
