/* SPDX-License-Identifier: ISC */
/* The status page and its files, which are part of the program: proxy/page/. */
#include <string.h>

#include "proxy/request_private.h"
#include "proxy/request_report.h"

/* The assembler looks for them where the compiler looks for headers. */
#define EMBED(symbol, file)                                                                        \
    __asm__(".pushsection .rodata\n" #symbol ":\n.incbin \"proxy/page/" file "\"\n" #symbol        \
            "_end:\n.popsection\n");                                                               \
    extern const char symbol[], symbol##_end[]

EMBED(page_html, "index.html");
EMBED(page_css, "page.css");
EMBED(page_js, "page.js");
EMBED(page_svg, "icon.svg");

static const struct page_file {
    const char *name;
    const char *media_type;
    const char *start, *end;
} files[] = {
    {"", "text/html; charset=utf-8", page_html, page_html_end},
    {"page.css", "text/css; charset=utf-8", page_css, page_css_end},
    {"page.js", "text/javascript; charset=utf-8", page_js, page_js_end},
    {"icon.svg", "image/svg+xml", page_svg, page_svg_end},
};

/* Nothing from elsewhere, nothing inline, nobody's frame, and no text that becomes markup. */
static const struct reply_extra fields[] = {
    {"Cache-Control", "no-cache"},
    {"Content-Security-Policy",
     "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; "
     "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
     "require-trusted-types-for 'script'; trusted-types 'none'"},
    {"Cross-Origin-Opener-Policy", "same-origin"},
    {"Cross-Origin-Resource-Policy", "same-origin"},
    {"Referrer-Policy", "no-referrer"},
    {"X-Content-Type-Options", "nosniff"},
    {"X-Frame-Options", "DENY"},
    {NULL, NULL},
};

void request_page(struct request *r)
{
    if (!request_may_look(r))
        return;
    for (size_t i = 0; i < sizeof files / sizeof files[0]; i++) {
        const struct page_file *f = &files[i];

        if (strcmp(f->name, r->target.tag) == 0) {
            request_text_with(r, f->media_type, f->start, (size_t)(f->end - f->start), fields);
            return;
        }
    }
    request_error(r, OUT_NO_ROUTE, NULL, 0);
}
