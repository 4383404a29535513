/* SPDX-License-Identifier: ISC */
#include "tools/facts.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cache/err.h"
#include "cache/json.h"
#include "tools/daemon.h"
#include "tools/wire.h"

#define DOCTOR "/-/setup/doctor.json"
#define HERE "127.0.0.1"

/* --- what it said --- */

json_t *facts_parse(const char *text)
{
    char why[256];
    json_t *json = NULL;
    if (json_parse(&json, text, strlen(text), why, sizeof why) != 0)
        return NULL;
    if (json_is_object(json_object_get(json, "doors")) &&
        json_is_array(json_object_get(json, "registries")))
        return json;
    json_decref(json);
    return NULL;
}

static void take_door(struct facts *f, enum setup_door_kind kind)
{
    const json_t *doors = json_object_get(f->said, "doors");
    const json_t *door = json_object_get(doors, setup_door_name(kind));
    json_int_t port = json_integer_value(json_object_get(door, "port"));
    f->setup.doors[kind] = (struct setup_door){
        .port = port > 0 && port <= UINT16_MAX ? (unsigned)port : 0,
        .tls = json_is_true(json_object_get(door, "tls")),
        .own_authority = json_is_true(json_object_get(door, "own_authority")),
    };
}

static void take_registries(struct facts *f)
{
    const json_t *list = json_object_get(f->said, "registries");
    size_t i;
    json_t *each;
    f->registries = mem_new((json_array_size(list) + 1) * sizeof f->registries[0]);
    json_array_foreach (list, i, each) {
        const char *name = json_string_value(each);
        f->registries[i] = name != NULL ? name : "";
    }
    f->setup.registries = f->registries;
    f->setup.registry_count = json_array_size(list);
}

/* `said` and `host` are owned from here on. False when it says what cannot be. */
static bool take(struct facts *f, json_t *said, char *host)
{
    f->said = said;
    f->host = host;
    f->setup.host = host;
    for (unsigned kind = 0; kind < SETUP_DOOR_COUNT; kind++)
        take_door(f, (enum setup_door_kind)kind);
    take_registries(f);
    f->setup.ca_pem = json_member_text(said, "ca");
    f->setup.ca_sha256 = json_member_text(said, "ca_sha256");
    return setup_facts_are_valid(&f->setup);
}

void facts_clear(struct facts *f)
{
    json_decref(f->said);
    free(f->host);
    free(f->registries);
    *f = (struct facts){0};
}

/* --- asking by its name --- */

/* What is said at this port, or NULL with a sentence in `why`. */
static json_t *ask_port(const char *host, unsigned port, char *why, size_t why_size)
{
    int fd;
    json_t *said = NULL;
    struct answer answer;
    if (wire_connect(host, port, &fd, why, why_size) != 0)
        return NULL;
    char *authority = mem_format("%s:%u", host, port);
    if (wire_get(fd, authority, DOCTOR, "", &answer) == 0) {
        said = answer.status == 200 ? facts_parse(answer.body) : NULL;
        answer_clear(&answer);
    }
    if (said == NULL)
        snprintf(why, why_size, "what listens on %s is no cachalot, or speaks TLS", authority);
    free(authority);
    close(fd);
    return said;
}

static json_t *ask_host(const char *host, unsigned port, char *why, size_t why_size)
{
    /* The proxy's is never TLS. */
    static const unsigned usual[] = {5000, 3128, 5001};
    if (port != 0)
        return ask_port(host, port, why, why_size);
    json_t *said = NULL;
    for (size_t i = 0; i < sizeof usual / sizeof usual[0] && said == NULL; i++)
        said = ask_port(host, usual[i], why, why_size);
    return said;
}

/* "HOST[:PORT]": the host, owned by the caller, or NULL when it is none. */
static char *split(const char *text, unsigned *port)
{
    const char *colon = strrchr(text, ':');
    size_t len = strlen(text);
    *port = 0;
    if (colon != NULL && text[len - 1] != ']') {
        char *end;
        unsigned long number = strtoul(colon + 1, &end, 10);
        if (*end != '\0' || end == colon + 1 || number == 0 || number > UINT16_MAX)
            return NULL;
        *port = (unsigned)number;
        len = (size_t)(colon - text);
    }
    return setup_host_is_valid(text, len) ? mem_copy(text, len) : NULL;
}

/* --- asking whichever there is --- */

static json_t *ask_socket(const struct options *o, char *why, size_t why_size)
{
    char *body;
    if (daemon_get(o, DOCTOR, &body, why, why_size) != 0)
        return NULL;
    json_t *said = facts_parse(body);
    if (said == NULL)
        snprintf(why, why_size, "what listens on the socket is a cachalotd of another version");
    free(body);
    return said;
}

static json_t *ask(const struct options *o, const char *host, unsigned port)
{
    char why[512], why_here[512];
    json_t *said = host != NULL ? ask_host(host, port, why, sizeof why) : NULL;
    if (said != NULL)
        return said;
    said = ask_socket(o, why_here, sizeof why_here);
    if (said == NULL && host == NULL)
        complain(EXIT_FAILED, "%s; of another machine's, say --host NAME", why_here);
    else if (said == NULL)
        complain(EXIT_FAILED, "%s; name it as --host HOST:PORT, with a port that has no TLS", why);
    else if (host != NULL && !o->quiet)
        complain(EXIT_DONE, "%s; asked the cachalotd of this machine instead", why);
    return said;
}

static bool has_tls(const struct setup_facts *f)
{
    return f->doors[SETUP_DOOR_REGISTRY].tls || f->doors[SETUP_DOOR_MIRROR].tls;
}

enum exit_code facts_read(struct facts *f, const struct options *o, const char *host)
{
    unsigned port = 0;
    char *name = host != NULL ? split(host, &port) : mem_copy(HERE, sizeof HERE - 1);
    *f = (struct facts){0};
    if (name == NULL)
        return complain(EXIT_USAGE, "%s is no host; say --host HOST or --host HOST:PORT", host);
    json_t *said = ask(o, host != NULL ? name : NULL, port);
    if (said == NULL) {
        free(name);
        return EXIT_FAILED;
    }
    enum exit_code code = EXIT_DONE;
    if (!take(f, said, name))
        code = complain(EXIT_FAILED, "what cachalot says of itself cannot be; is it cachalot?");
    else if (host == NULL && has_tls(&f->setup))
        code = complain(EXIT_USAGE, "clients check the name of a listener with TLS; say what they "
                                    "call this one: --host NAME");
    if (code != EXIT_DONE)
        facts_clear(f);
    return code;
}
