/* SPDX-License-Identifier: ISC */
/* The write thread of the intakes: the partial files, their records, their readers. */
#ifndef PROXY_INTAKE_WRITE_H
#define PROXY_INTAKE_WRITE_H

#include "proxy/intake_private.h"

/* The thread; `arg` is the hasher, and so is `owner` in what its messages run. */
void *writer_run(void *arg);
void writer_open(struct msg *m, void *owner);
void writer_reset(struct msg *m, void *owner);
void writer_go_elsewhere(struct msg *m, void *owner);
void writer_size(struct msg *m, void *owner);
void writer_block(struct msg *m, void *owner);
void writer_end(struct msg *m, void *owner);
void writer_stop(struct msg *m, void *owner);
/* From the hash thread: what was written could not be read back; the end has come,
 * and nothing is left to hash. */
void writer_unread(struct msg *m, void *owner);
void writer_conclude(struct msg *m, void *owner);

/* The answer to an opening. */
void intake_answer_opening(struct intake *i, struct order *o, int err);
/* The room for its size was found, or not. */
void writer_sized(struct intake *i, struct order *o, int err);
/* The same for a block whose blob's size is not known. */
void writer_took(struct intake *i, struct block *b, int err);
/* The end of an intake, once nothing else works with the partial. */
void intake_settle(struct intake *i);

/* More is in the file: say so to the readers, now or soon. */
void intake_tell(struct intake *i);
/* The directory, or memory, could not be written or read; ERR_NOT_FOUND: nobody reads. */
void intake_break_off(struct intake *i, int err);
/* On to the hash thread. */
void intake_post_block(struct intake *i, struct block *b);
void intake_post_end(struct intake *i, struct order *o);

/* intake_pass.c */
/* There is no room for the blob: pass it on to its readers. ERR_NO_SPACE when that cannot be. */
int intake_begin_passing(struct intake *i);
/* What comes for one that passes. */
void intake_pass_block(struct intake *i, struct block *b);
void intake_pass_end(struct intake *i, struct order *o);
/* Go on, as far as the readers let. */
void intake_pass_on(struct intake *i);
/* Whether it is over, so that the intake may be freed; if not, intake_settle is called. */
bool intake_stop_passing(struct intake *i);

/* intake_room.c */
/* No room was found for the size that the order says: go on when there is some, or none can
 * be made. */
void intake_wait_for_room(struct intake *i, struct order *o);
/* The same for a block, of a blob whose size is not known yet. */
void intake_wait_to_write(struct intake *i, struct block *b);
/* The file cannot be made, for want of room for it: it is opened again when there is some;
 * false when that was so already. */
bool intake_wait_to_open(struct intake *i, struct order *o);
/* Whether it waits; then the message is run again after that. */
bool intake_hold_back(struct intake *i, struct msg *m);

/* intake_checkpoint.c */
/* Into i->extents: what an earlier run left in the file, by the index, as far as it is for
 * those whom this fetch admits. True when the record must not stay as it is. */
bool checkpoint_load(struct intake *i, uint64_t file_bytes);
/* Then: forget the record, or make it this fetch's; the opening is answered after the
 * commit, so that whatever befalls us, no byte is in the file that its record gives to
 * others. */
void checkpoint_claim(struct intake *i, struct order *opening);
/* The size is known: the index says from now on that there is a partial. */
void checkpoint_first(struct intake *i);
/* Bytes were written: maybe it is time for one. */
void checkpoint_in_time(struct intake *i, size_t len, int64_t now_ms);
/* Whether one more was needed, and is under way, before the partial is left. */
bool checkpoint_last(struct intake *i);

/* intake_publish.c: the storage thread's part */
/* Hand a verified blob to the storage thread, which owns the partial and the
 * reference of the fetch from now on. */
void publish_post(struct hasher *h, struct partial *p, struct fetch *f, const struct name *n,
                  uint64_t size_bytes);
/* Forget the record of a partial. */
void publish_forget(struct hasher *h, const struct digest *d);

#endif
