/* Staging copies on GPUs: the threads of a block side by side, several packs in flight each. */
#pragma once

DEVICE void copy_to_staging(char* to, const char* from, uint32_t packs, const Geometry& g) {
    copy_packs(
        packs, g, [=](uint64_t i) { return load_pack(from + i * HIPCOMM_PACK_BYTES); },
        [=](uint64_t i, Pack pack) { store_staged(to + i * HIPCOMM_PACK_BYTES, pack); });
}
DEVICE void copy_from_staging(char* to, const char* from, uint32_t packs, const Geometry& g) {
    copy_packs(
        packs, g, [=](uint64_t i) { return load_staged(from + i * HIPCOMM_PACK_BYTES); },
        [=](uint64_t i, Pack pack) { store_pack(to + i * HIPCOMM_PACK_BYTES, pack); });
}
