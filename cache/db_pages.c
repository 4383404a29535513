/* SPDX-License-Identifier: ISC */
/*
 * A file is pages. The first two are meta pages, of which the one with the later transaction
 * counts; it has the roots of two trees: the table of free pages, and the main table, whose
 * values are the roots of the named ones. A page of a tree has a head, offsets of its nodes, a
 * gap, and the nodes, packed to the end of the page. A node of a branch has the first key and the
 * number of a page; a node of a leaf has a key and a value, or the number of the first of the
 * overflow pages that the value is on.
 */
#include "cache/db_pages.h"

#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "cache/db.h"
#include "cache/err.h"

#define MAGIC 0xBEEFC0DEu
#define DATA_VERSION 1
#define NO_PAGE SIZE_MAX
#define DEPTH_MAX 32
#define PAGE_BYTES_MIN 512
#define PAGE_BYTES_MAX 32768 /* offsets have 16 bits */
#define META_PAGES 2

enum page_flags {
    PAGE_BRANCH = 0x01,
    PAGE_LEAF = 0x02,
    PAGE_OVERFLOW = 0x04,
    PAGE_META = 0x08,
    PAGE_KEEP = 0x8000, /* of no meaning in a file */
};

enum node_flags { NODE_BIG = 0x01, NODE_TABLE = 0x02 };

#define TABLE_INTEGER_KEYS 0x08

struct page_head {
    size_t number;
    uint16_t pad;
    uint16_t flags;
    uint16_t lower; /* of an overflow page this and the next are its count of pages */
    uint16_t upper;
};

struct node_head {
    uint16_t low, high; /* of the size of the value, or of a page's number */
    uint16_t flags;     /* of a branch the rest of that number */
    uint16_t key_size;
};

struct table_head {
    uint32_t page_bytes; /* of the first table */
    uint16_t flags;
    uint16_t depth;
    size_t branches, leaves, overflows;
    size_t entries;
    size_t root;
};

struct meta {
    uint32_t magic;
    uint32_t version;
    size_t address;
    size_t map_size;
    struct table_head free, main;
    size_t last_page;
    size_t transaction;
};

struct span {
    const uint8_t *at;
    size_t size;
};

struct file {
    const uint8_t *bytes;
    size_t page_bytes;
    size_t last_page;
    uint8_t *seen; /* a bit a page */
};

/* A walk of one tree. */
struct tree {
    struct file *file;
    bool has_integer_keys;
    bool is_main;
    bool is_free;
    unsigned depth;
    size_t branches, leaves, overflows, entries;
    bool has_last;
    struct span last; /* the last key of a leaf */
    bool has_bound;
    struct span bound; /* what the next one must not be below */
};

static bool check_tree(struct file *f, const struct table_head *head, bool is_main, bool is_free);

/* --- pages --- */

/* Its bytes if it is one that may be used, and was not yet. */
static const uint8_t *take_page(struct file *f, size_t number, struct page_head *head)
{
    if (number < META_PAGES || number > f->last_page ||
        (f->seen[number / 8] & 1u << number % 8) != 0)
        return NULL;
    f->seen[number / 8] |= (uint8_t)(1u << number % 8);
    const uint8_t *page = f->bytes + number * f->page_bytes;

    memcpy(head, page, sizeof *head);
    head->flags &= (uint16_t)~PAGE_KEEP;
    return head->number == number ? page : NULL;
}

/* The overflow pages of a value: those after the first have no head. */
static const uint8_t *take_overflow(struct tree *t, size_t number, size_t size)
{
    struct file *f = t->file;
    struct page_head head;
    const uint8_t *page = take_page(f, number, &head);
    size_t wanted = (sizeof head + size + f->page_bytes - 1) / f->page_bytes;

    if (page == NULL || head.flags != PAGE_OVERFLOW)
        return NULL;
    size_t count = head.lower | (size_t)head.upper << 16;

    if (count < wanted || count > f->last_page - number + 1)
        return NULL;
    for (size_t i = number + 1; i < number + count; i++) {
        if ((f->seen[i / 8] & 1u << i % 8) != 0)
            return NULL;
        f->seen[i / 8] |= (uint8_t)(1u << i % 8);
    }
    t->overflows += count;
    return page + sizeof head;
}

/* --- keys --- */

static int compare_keys(const struct tree *t, struct span a, struct span b)
{
    if (t->has_integer_keys) {
        size_t x, y;

        memcpy(&x, a.at, sizeof x);
        memcpy(&y, b.at, sizeof y);
        return (x > y) - (x < y);
    }
    int order = memcmp(a.at, b.at, a.size < b.size ? a.size : b.size);

    return order != 0 ? order : (a.size > b.size) - (a.size < b.size);
}

static bool key_is_sound(const struct tree *t, struct span key)
{
    return t->has_integer_keys ? key.size == sizeof(size_t)
                               : key.size > 0 && key.size <= DB_KEY_MAX;
}

static bool take_key(struct tree *t, struct span key)
{
    if (!key_is_sound(t, key) || (t->has_last && compare_keys(t, t->last, key) >= 0) ||
        (t->has_bound && compare_keys(t, t->bound, key) > 0))
        return false;
    t->last = key;
    t->has_last = true;
    t->has_bound = false;
    t->entries++;
    return true;
}

/* Of a branch: above all keys before, and not above those that follow. */
static bool take_bound(struct tree *t, struct span key)
{
    if (!key_is_sound(t, key) || (t->has_last && compare_keys(t, t->last, key) >= 0))
        return false;
    t->bound = key;
    t->has_bound = true;
    return true;
}

/* --- values --- */

/* A count, then that many pages, which nothing else uses, in descending order. */
static bool take_free_pages(struct tree *t, const uint8_t *value, size_t size)
{
    struct file *f = t->file;
    size_t room = size / sizeof(size_t);
    size_t count, page, last = f->last_page + 1;

    if (room == 0)
        return false;
    memcpy(&count, value, sizeof count);
    if (count >= room)
        return false;
    for (size_t i = 1; i <= count; i++) {
        memcpy(&page, value + i * sizeof page, sizeof page);
        if (page < META_PAGES || page >= last || (f->seen[page / 8] & 1u << page % 8) != 0)
            return false;
        f->seen[page / 8] |= (uint8_t)(1u << page % 8);
        last = page;
    }
    return true;
}

static bool take_table(struct tree *t, const uint8_t *value, size_t size)
{
    struct table_head head;

    if (size != sizeof head)
        return false;
    memcpy(&head, value, sizeof head);
    return check_tree(t->file, &head, false, false);
}

static bool take_value(struct tree *t, const struct node_head *node, const uint8_t *value,
                       size_t size)
{
    size_t number;

    if ((node->flags & NODE_BIG) != 0) {
        memcpy(&number, value, sizeof number);
        value = take_overflow(t, number, size);
        if (value == NULL)
            return false;
    }
    if (t->is_free)
        return take_free_pages(t, value, size);
    /* Only the main table has tables, and it has nothing else. */
    return t->is_main ? take_table(t, value, size) : true;
}

/* --- trees --- */

static bool walk_page(struct tree *t, size_t number, unsigned depth);

static bool visit_branch(struct tree *t, const struct node_head *node, struct span key, bool first,
                         unsigned depth)
{
    size_t number = node->low | (size_t)node->high << 16;

    if (sizeof number > sizeof(uint32_t))
        number |= (size_t)((uint64_t)node->flags << 32);
    /* The first key of a branch says nothing, and may be empty. */
    return (first || take_bound(t, key)) && walk_page(t, number, depth + 1);
}

static bool visit_leaf(struct tree *t, const struct node_head *node, struct span key, size_t size)
{
    uint16_t wanted = t->is_main ? NODE_TABLE : 0;

    return (node->flags & ~NODE_BIG) == wanted && take_key(t, key) &&
           take_value(t, node, key.at + key.size, size);
}

/* The room that a node takes on its page, 0 when it is not within it. */
static size_t node_room(const struct node_head *node, size_t size, bool is_leaf, size_t room)
{
    bool is_big = is_leaf && (node->flags & NODE_BIG) != 0;
    size_t value = !is_leaf ? 0 : is_big ? sizeof(size_t) : size;

    if (room < sizeof *node || node->key_size > room - sizeof *node ||
        value > room - sizeof *node - node->key_size)
        return 0;
    return (sizeof *node + node->key_size + value + 1) & ~(size_t)1;
}

static bool walk_nodes(struct tree *t, const uint8_t *page, const struct page_head *head,
                       unsigned depth)
{
    size_t page_bytes = t->file->page_bytes;
    bool is_leaf = head->flags == PAGE_LEAF;
    size_t count = (head->lower - sizeof *head) / sizeof(uint16_t);
    size_t used = 0;

    for (size_t i = 0; i < count; i++) {
        struct node_head node;
        uint16_t at;

        memcpy(&at, page + sizeof *head + i * sizeof at, sizeof at);
        if (at < head->upper || at % 2 != 0 || at > page_bytes - sizeof node)
            return false;
        memcpy(&node, page + at, sizeof node);
        size_t size = node.low | (size_t)node.high << 16;
        size_t room = node_room(&node, size, is_leaf, page_bytes - at);
        struct span key = {page + at + sizeof node, node.key_size};

        used += room;
        if (room == 0 || (is_leaf ? !visit_leaf(t, &node, key, size)
                                  : !visit_branch(t, &node, key, i == 0, depth)))
            return false;
    }
    return used == page_bytes - head->upper;
}

static bool walk_page(struct tree *t, size_t number, unsigned depth)
{
    struct page_head head;
    const uint8_t *page = take_page(t->file, number, &head);
    bool is_leaf = depth == t->depth;

    if (page == NULL || depth > t->depth || head.flags != (is_leaf ? PAGE_LEAF : PAGE_BRANCH) ||
        head.lower <= sizeof head || head.lower % 2 != 0 || head.lower > head.upper ||
        head.upper > t->file->page_bytes)
        return false;
    if (is_leaf)
        t->leaves++;
    else
        t->branches++;
    return walk_nodes(t, page, &head, depth);
}

static bool check_tree(struct file *f, const struct table_head *head, bool is_main, bool is_free)
{
    struct tree t = {
        .file = f,
        .is_main = is_main,
        .is_free = is_free,
        .has_integer_keys = is_free,
        .depth = head->depth,
    };
    uint16_t flags = is_free ? TABLE_INTEGER_KEYS : 0;

    if (head->flags != flags || head->depth > DEPTH_MAX)
        return false;
    bool is_empty = head->root == NO_PAGE;

    if (is_empty ? head->depth != 0 : head->depth == 0 || !walk_page(&t, head->root, 1))
        return false;
    return t.branches == head->branches && t.leaves == head->leaves &&
           t.overflows == head->overflows && t.entries == head->entries;
}

/* --- the whole --- */

static bool read_meta(const uint8_t *page, size_t number, struct meta *m)
{
    struct page_head head;

    memcpy(&head, page, sizeof head);
    memcpy(m, page + sizeof head, sizeof *m);
    return head.number == number && head.flags == PAGE_META && m->magic == MAGIC &&
           m->transaction % META_PAGES == (m->transaction == 0 ? 0 : number);
}

static bool page_size_is_sound(size_t page_bytes, size_t size)
{
    return page_bytes >= PAGE_BYTES_MIN && page_bytes <= PAGE_BYTES_MAX &&
           (page_bytes & (page_bytes - 1)) == 0 && size / page_bytes >= META_PAGES;
}

/* The metas of the last transaction and of the one before it, or both of none. */
static bool follow(const struct meta *a, const struct meta *b)
{
    size_t between = a->transaction > b->transaction ? a->transaction - b->transaction
                                                     : b->transaction - a->transaction;

    return between == 1 || (a->transaction == 0 && b->transaction == 0);
}

int db_pages_check(const void *data, size_t size)
{
    struct file f = {.bytes = data};
    struct meta first, second;

    if (size < sizeof(struct page_head) + sizeof first || !read_meta(data, 0, &first) ||
        !page_size_is_sound(first.free.page_bytes, size))
        return ERR_DAMAGED;
    f.page_bytes = first.free.page_bytes;
    if (!read_meta(f.bytes + f.page_bytes, 1, &second) || second.version != first.version ||
        second.free.page_bytes != first.free.page_bytes || !follow(&first, &second))
        return ERR_DAMAGED;
    if (first.version != DATA_VERSION)
        return ERR_VERSION;
    const struct meta *m = second.transaction > first.transaction ? &second : &first;

    f.last_page = m->last_page;
    if (f.last_page >= size / f.page_bytes)
        return ERR_DAMAGED;
    f.seen = mem_new(f.last_page / 8 + 1);
    bool is_sound = check_tree(&f, &m->main, true, false) && check_tree(&f, &m->free, false, true);

    free(f.seen);
    return is_sound ? 0 : ERR_DAMAGED;
}
