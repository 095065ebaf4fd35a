/* What cannot be exceeded. Plain numbers: the C core and the kernels include this file, and Python has its
 * constants as hipcomm.core.lib.HIPCOMM_..., through hipcomm/native/build_ffi.py.
 */
#ifndef HIPCOMM_ABI_LIMITS_H
#define HIPCOMM_ABI_LIMITS_H

#define HIPCOMM_MAX_RANKS 16

/* Most blocks of a launch. One epoch word per block lives in the control slab. */
#define HIPCOMM_MAX_BLOCKS 256

/* Most threads of a block: of any kernel that waits for other ranks, of those in which a thread takes a unit of all
 * ranks (kernels/lines/unit.h), and of those that wait for nobody. */
#define HIPCOMM_MAX_THREADS 512
#define HIPCOMM_MAX_UNIT_THREADS 256
#define HIPCOMM_MAX_LOCAL_THREADS 1024

/* Registered regions of a communicator. */
#define HIPCOMM_MAX_REGIONS 256

/* Longer messages (2^56 bytes), and more staging memory (over 64 GiB), are refused: below these no sum or product in
 * plan.c overflows, and the packs of the staging slab can be counted in 32 bits. */
#define HIPCOMM_MAX_MESSAGE_BYTES 0xffffffffffffff
#define HIPCOMM_MAX_STAGING_BYTES 0x1000000000

/* In ticks it fits into 64 bits on every device. */
#define HIPCOMM_MAX_TIMEOUT_SECONDS 1000000

/* User data moves in packs of 16 bytes. */
#define HIPCOMM_PACK_BYTES 16

/* Elements of a row that is normed. */
#define HIPCOMM_MAX_HIDDEN 65536

#endif
