/* SPDX-License-Identifier: ISC */
/* The table of options: one row each. */
#include "proxy/config_private.h"

#include "cache/evict.h"
#include "cache/prefetch.h"
#include "cache/room.h"

/* LMDB maps the whole index: what the address space has room for. */
#if SIZE_MAX > UINT32_MAX
#define INDEX_SIZE "8GiB"
#define INDEX_SIZE_MAX (16 * TIB)
#else
#define INDEX_SIZE "1GiB"
#define INDEX_SIZE_MAX (2 * GIB - MIB)
#endif

static const char *const role_words[] = {
    [ROLE_REGISTRY] = "registry",
    [ROLE_MIRROR] = "mirror",
    [ROLE_INTERCEPT] = "intercept",
    [ROLE_TLS_INTERCEPT] = "tls-intercept",
    NULL,
};
static const char *const format_words[] = {[LOG_TEXT] = "text", [LOG_JSON] = "json", NULL};
static const char *const level_words[] = {
    [LOG_ERROR] = "error", [LOG_WARN] = "warn", [LOG_INFO] = "info", [LOG_DEBUG] = "debug", NULL};

static const char *const visibility_words[] = {
    [VISIBILITY_PUBLIC] = "public", [VISIBILITY_PRIVATE] = "private", NULL};
static const char *const family_words[] = {
    [ADDRESSES_ANY] = "any", [ADDRESSES_IPV4] = "ipv4", [ADDRESSES_IPV6] = "ipv6", NULL};
static const char *const parent_words[] = {
    [PARENT_NO] = "no", [PARENT_PREFIX] = "prefix", [PARENT_NS] = "ns", NULL};

/* Of RIGHT_PULL, RIGHT_PUSH, RIGHT_DELETE. */
static const char *const right_words[] = {"pull", "push", "delete", NULL};
_Static_assert(RIGHT_PULL == 1 << 0 && RIGHT_PUSH == 1 << 1 && RIGHT_DELETE == 1 << 2,
               "flags are 1 << the place of their word");

static const char *const section_names[SECTION_COUNT] = {
    [SECTION_CACHE] = "cache",         [SECTION_LOG] = "log",       [SECTION_ADMIN] = "admin",
    [SECTION_INTERCEPT] = "intercept", [SECTION_AUTH] = "auth",     [SECTION_LISTENER] = "listener",
    [SECTION_UPSTREAM] = "upstream",   [SECTION_ACCESS] = "access", [SECTION_PREFETCH] = "prefetch",
};

/* clang-format off */
#define HOSTS_FORM "list of at most 16 HOST[:PORT] or *.DOMAIN[:PORT]"
#define RATE_FORM "empty for no limit, or at most 8 of RATE [DAY[-DAY]] [HH:MM-HH:MM] with commas between, e.g. 50Mbit/s"
#define CACHE(field) .section = SECTION_CACHE, .offset = offsetof(struct config, field)
#define LOG(field) .section = SECTION_LOG, .offset = offsetof(struct config, field)
#define ADMIN(field) .section = SECTION_ADMIN, .offset = offsetof(struct config, field)
#define INTERCEPT(field) .section = SECTION_INTERCEPT, .offset = offsetof(struct config, field)
#define AUTH(field) .section = SECTION_AUTH, .offset = offsetof(struct config, auth.field)
#define LISTENER(field) .section = SECTION_LISTENER, .offset = offsetof(struct config_listener, field)
#define UPSTREAM(field) .section = SECTION_UPSTREAM, .offset = offsetof(struct config_upstream, field)
#define ACCESS(field) .section = SECTION_ACCESS, .offset = offsetof(struct config_access, field)
#define PREFETCH(field) .section = SECTION_PREFETCH, .offset = offsetof(struct config_prefetch, field)

static const struct option_row rows[] = {
    {{"cache", "path", "/var/lib/cachalot", "absolute path",
      "The directory where everything is kept; it is a valid OCI image layout."},
     CACHE(path), .type = OPTION_PATH},
    {{"cache", "index-size", INDEX_SIZE, "size, e.g. 8GiB, at least 1MiB",
      "The room that the index may take at most; it costs address space, and disk only as it fills."},
     CACHE(index_size_bytes), .type = OPTION_SIZE, .min = MIB, .max = INDEX_SIZE_MAX},
    {{"cache", "size", ROOM_SIZE_DEFAULT, "size, e.g. 500GiB, share of the file system, e.g. 90%, or 0 for no limit",
      "What the cache directory may take at most."},
     CACHE(room.size), .type = OPTION_AMOUNT, .min = 1, .max = ROOM_SIZE_MAX},
    {{"cache", "min-free", ROOM_MIN_FREE_DEFAULT, "size, e.g. 20GiB, or share of the file system, e.g. 2%",
      "What is left free on the file system, whoever fills it."},
     CACHE(room.min_free), .type = OPTION_AMOUNT, .min = 1, .max = ROOM_MIN_FREE_MAX},
    {{"cache", "evict-to", ROOM_LOW_DEFAULT, "share of size from 10% to 99%",
      "How far is evicted once room is short, so that it is not at every download."},
     CACHE(room.low_percent), .type = OPTION_PERCENT, .min = ROOM_LOW_MIN, .max = ROOM_LOW_MAX},
    {{"cache", "evict-local", "no", "yes or no",
      "Whether images that were pushed here make room, too; they are nowhere else."},
     CACHE(evict_local), .type = OPTION_BOOL},
    {{"cache", "push-grace", EVICT_GRACE_DEFAULT, "time in whole seconds, e.g. 1h, at most 30d",
      "How long a pushed blob that no manifest names is kept for one to come."},
     CACHE(push_grace_s), .type = OPTION_SECONDS, .min = 0, .max = EVICT_GRACE_MAX_S},
    {{"cache", "workers", "0", "number from 0 to 256",
      "Threads that serve clients; 0 is one for each processor."},
     CACHE(workers), .type = OPTION_COUNT, .min = 0, .max = WORKERS_MAX},
    {{"cache", "drain-timeout", "30s", "time, e.g. 30s, at most 1h",
      "How long requests under way may take to end when the daemon is told to stop."},
     CACHE(drain_timeout_ms), .type = OPTION_MS, .min = 0, .max = HOUR},
    {{"cache", "upload-ttl", "24h", "time in whole seconds, e.g. 24h, from 1s to 30d",
      "How long an upload that its client does not go on with is kept."},
     CACHE(upload_ttl_s), .type = OPTION_SECONDS, .min = 1, .max = 30 * DAY / SECOND},
    {{"cache", "scrub", "30d", "time in whole seconds, e.g. 30d, at most 365d, or 0 for never",
      "How often all that is held is read again and compared with its digests."},
     CACHE(scrub_s), .type = OPTION_SECONDS, .min = 0, .max = 365 * DAY / SECOND},
    {{"cache", "scrub-rate", "32MiB", "size that is read in a second, e.g. 32MiB, at least 1MiB",
      "How fast that may be, at most; it is as slow as its period lets it."},
     CACHE(scrub_rate_bytes), .type = OPTION_SIZE, .min = MIB, .max = 64 * GIB},
    {{"cache", "offline", "no", "yes or no",
      "Whether no upstream is asked at all; what is held is served, however old."},
     CACHE(offline), .type = OPTION_BOOL},
    {{"cache", "rate", "", RATE_FORM,
      "What is downloaded from all upstreams together, at most."},
     CACHE(rate), .type = OPTION_RATE},
    {{"cache", "background-rate", "", RATE_FORM,
      "The same for work that no client waits for; it counts for rate too."},
     CACHE(background_rate), .type = OPTION_RATE},
    {{"cache", "require-signature", "", "absolute path, or empty for none",
      "PEM file of the public Ed25519 key that must have signed what is imported."},
     CACHE(import_key_path), .type = OPTION_PATH},
    {{"cache", "user", "", "name of a user, or empty for the owner of the cache directory",
      "Whom the daemon runs as when root starts it."},
     CACHE(user), .type = OPTION_USERNAME},
    {{"cache", "sandbox", "yes", "yes or no",
      "Whether the daemon shuts itself off from what it has no use for in the file system."},
     CACHE(sandbox), .type = OPTION_BOOL},

    {{"log", "file", "", "absolute path, or empty for standard error",
      "Where the log goes; SIGHUP opens the file again after a rotation."},
     LOG(log_file), .type = OPTION_PATH},
    {{"log", "format", "text", "text or json", "One line of text or one JSON object an event."},
     LOG(log_format), .type = OPTION_WORD, .words = format_words},
    {{"log", "level", "info", "error, warn, info or debug", "The least important events that are logged."},
     LOG(log_level), .type = OPTION_WORD, .words = level_words},
    {{"log", "access", "yes", "yes or no", "Whether each request gets a line, whatever the level."},
     LOG(log_access), .type = OPTION_BOOL},

    {{"admin", "socket", "", "absolute path, empty for cachalot.sock in the cache directory, or none",
      "The Unix socket through which the cachalot command asks the running daemon."},
     ADMIN(admin_socket), .type = OPTION_SOCKET},
    {{"admin", "page", "private", "list of at most 16 ADDRESS, ADDRESS/BITS, private or any, or empty for nobody",
      "The addresses of clients that get the status page and what it shows, of those a listener answers."},
     ADMIN(page), .type = OPTION_RANGES, .count_offset = offsetof(struct config, page_count)},

    {{"intercept", "ca", "", "absolute path, or empty for ca in the cache directory",
      "The directory of cachalot's own certificate authority; it is made when there is none."},
     INTERCEPT(ca_path), .type = OPTION_PATH},
    {{"intercept", "tunnel", "", HOSTS_FORM,
      "Hosts that clients are connected to without a look inside, besides the token servers."},
     INTERCEPT(tunnel_hosts), .type = OPTION_HOSTS,
     .count_offset = offsetof(struct config, tunnel_host_count)},

    {{"auth", "password-file", "", "absolute path, or empty for none",
      "File of the users of local repositories, with bcrypt hashes as htpasswd -B makes them."},
     AUTH(password_file), .type = OPTION_PATH},
    {{"auth", "realm", "cachalot", "printable ASCII, at most 150 characters",
      "What clients are told that the password is for."},
     AUTH(realm), .type = OPTION_TEXT},
    {{"auth", "token-key", "", "absolute path, or empty for none",
      "PEM file of the public key, or the certificate, of a token server: RSA or P-256."},
     AUTH(token_key), .type = OPTION_PATH},
    {{"auth", "token-realm", "", "http://HOST[:PORT][/PATH] or https://..., or empty for none",
      "Where clients get their tokens."},
     AUTH(token_realm), .type = OPTION_REALM},
    {{"auth", "token-service", "", "printable ASCII, at most 150 characters",
      "What the token server calls this registry: the audience of its tokens."},
     AUTH(token_service), .type = OPTION_TEXT},
    {{"auth", "token-issuer", "", "printable ASCII, at most 150 characters",
      "What the token server calls itself: the issuer of its tokens."},
     AUTH(token_issuer), .type = OPTION_TEXT},

    {{"listener", "role", "registry", "registry, mirror, intercept or tls-intercept",
      "A registry takes names with their host; a mirror is for one upstream; the others open clients' TLS."},
     LISTENER(role), .type = OPTION_WORD, .words = role_words},
    {{"listener", "upstream", "docker.io", "registry host[:port] with a section [upstream HOST]",
      "The registry that a mirror serves; only for the role mirror."},
     LISTENER(mirror_of), .type = OPTION_REGISTRY},
    {{"listener", "address", "", "list of PORT, IPV4:PORT, [IPV6]:PORT or unix:/PATH",
      "Where clients connect; a port alone is all IPv4 and IPv6 addresses; several lines add up."},
     LISTENER(addresses), .type = OPTION_ADDRESS,
     .count_offset = offsetof(struct config_listener, address_count)},
    {{"listener", "head-timeout", "10s", "time, e.g. 10s, from 10ms to 1h",
      "How long a client may take to send the head of a request."},
     LISTENER(head_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"listener", "idle-timeout", "90s", "time, e.g. 90s, from 10ms to 1h",
      "How long a connection may stay open without a request."},
     LISTENER(idle_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"listener", "stall-timeout", "60s", "time, e.g. 60s, from 10ms to 1h",
      "How long a client may take no bytes of an answer, or send less than 1 KiB of a body, before "
      "it is disconnected."},
     LISTENER(stall_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"listener", "max-connections", "0", "number from 0 to 1000000",
      "Connections open at once; 0 is as many as the limit of open files allows."},
     LISTENER(max_connections), .type = OPTION_COUNT, .min = 0, .max = 1000000},
    {{"listener", "allow", "private", "list of at most 16 ADDRESS, ADDRESS/BITS, private or any",
      "The addresses of clients that are answered."},
     LISTENER(allow), .type = OPTION_RANGES,
     .count_offset = offsetof(struct config_listener, allow_count)},
    {{"listener", "tls", "no", "yes or no",
      "Whether clients speak TLS; the roles that intercept need no such option."},
     LISTENER(tls), .type = OPTION_BOOL},
    {{"listener", "certificate", "", "absolute path, or empty for one of our own authority",
      "PEM file of the chain that clients are shown; its key is in key."},
     LISTENER(certificate), .type = OPTION_PATH},
    {{"listener", "key", "", "absolute path, or empty for none",
      "PEM file of the key of certificate."},
     LISTENER(key), .type = OPTION_PATH},
    {{"listener", "names", "", "list of at most 16 names and addresses",
      "What clients call this listener: what a certificate of our own authority says."},
     LISTENER(names), .type = OPTION_NAMES,
     .count_offset = offsetof(struct config_listener, name_count)},

    {{"upstream", "url", "", "list of http://HOST[:PORT][/PATH] or https://..., or empty for https://HOST",
      "Where the registry is asked, in this order; several lines add up."},
     UPSTREAM(urls), .type = OPTION_URL,
     .count_offset = offsetof(struct config_upstream, url_count)},
    {{"upstream", "parent", "no", "no, prefix or ns",
      "Whether the urls are of another cachalot, and by which of its doors it is asked."},
     UPSTREAM(parent), .type = OPTION_WORD, .words = parent_words},
    {{"upstream", "offline", "no", "yes or no",
      "Whether this upstream is never asked; what is held is served, however old."},
     UPSTREAM(offline), .type = OPTION_BOOL},
    {{"upstream", "username", "", "name without a colon, or empty for none",
      "Who the upstream is asked as, when it wants to know; the password is in password-file."},
     UPSTREAM(username), .type = OPTION_USERNAME},
    {{"upstream", "password-file", "", "absolute path, or empty for none",
      "File with the password of username, or with a token for it, in its first line."},
     UPSTREAM(password_file), .type = OPTION_PATH},
    {{"upstream", "credential-helper", "", "absolute path of a program, or empty for none",
      "Program that is asked for username and password, as Docker's credential helpers are."},
     UPSTREAM(credential_helper), .type = OPTION_PATH},
    {{"upstream", "visibility", "public", "public or private",
      "Whether every client may have what the upstream gives to these credentials."},
     UPSTREAM(visibility), .type = OPTION_WORD, .words = visibility_words},
    {{"upstream", "realm-hosts", "", HOSTS_FORM,
      "Hosts of token servers that credentials are sent to, besides the upstream's own."},
     UPSTREAM(realm_hosts), .type = OPTION_HOSTS,
     .count_offset = offsetof(struct config_upstream, realm_host_count)},
    {{"upstream", "redirect-hosts", "", HOSTS_FORM,
      "Hosts that redirects are followed to, besides the upstream's own; any public one when empty."},
     UPSTREAM(redirect_hosts), .type = OPTION_HOSTS,
     .count_offset = offsetof(struct config_upstream, redirect_host_count)},
    {{"upstream", "foreign-hosts",
      "go.microsoft.com mcr.microsoft.com *.data.mcr.microsoft.com winlayers.cdn.mscr.io "
      "winlayers.blob.core.windows.net", HOSTS_FORM,
      "Hosts that layers are fetched from which manifests keep elsewhere; none when empty."},
     UPSTREAM(foreign_hosts), .type = OPTION_HOSTS,
     .count_offset = offsetof(struct config_upstream, foreign_host_count)},
    {{"upstream", "serve-urls", "no", "yes or no",
      "Whether clients that ask such a url themselves get what its manifests say is there."},
     UPSTREAM(serve_urls), .type = OPTION_BOOL},
    {{"upstream", "tag-ttl", "60s", "time in whole seconds, e.g. 60s, at most 30d",
      "How long a tag is served without asking the upstream whether it has moved."},
     UPSTREAM(tag_ttl_s), .type = OPTION_SECONDS, .min = 0, .max = 30 * DAY / SECOND},
    {{"upstream", "not-found-ttl", "15s", "time, e.g. 15s, at most 1h",
      "How long the upstream is not asked again for what it does not have."},
     UPSTREAM(not_found_ttl_ms), .type = OPTION_MS, .min = 0, .max = HOUR},
    {{"upstream", "proof-ttl", "5m", "time, e.g. 5m, at most 1d",
      "How long a client that the upstream gave private content is not made to ask it again."},
     UPSTREAM(proof_ttl_ms), .type = OPTION_MS, .min = 0, .max = DAY},
    {{"upstream", "offline-grace", "0", "time, e.g. 8h, at most 30d",
      "How much longer that holds while the upstream cannot be asked."},
     UPSTREAM(offline_grace_ms), .type = OPTION_MS, .min = 0, .max = 30 * DAY},
    {{"upstream", "connect-timeout", "10s", "time, e.g. 10s, from 10ms to 5m",
      "How long a connection to the upstream may take to be made, TLS included."},
     UPSTREAM(connect_timeout_ms), .type = OPTION_MS, .min = 10, .max = 300 * SECOND},
    {{"upstream", "request-timeout", "60s", "time, e.g. 60s, from 10ms to 1h",
      "How long anything but the download of a blob may take in total, each try."},
     UPSTREAM(request_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"upstream", "stall-timeout", "30s", "time, e.g. 30s, from 10ms to 1h",
      "How long the upstream may send nothing before the connection is given up."},
     UPSTREAM(stall_timeout_ms), .type = OPTION_MS, .min = 10, .max = HOUR},
    {{"upstream", "retries", "5", "number from 0 to 100",
      "How often a failed request is tried again, and a broken download continued."},
     UPSTREAM(retries), .type = OPTION_COUNT, .min = 0, .max = 100},
    {{"upstream", "connections", "4", "number from 1 to 16",
      "Connections over which a large blob is downloaded in pieces."},
     UPSTREAM(connections), .type = OPTION_COUNT, .min = 1, .max = 16},
    {{"upstream", "rate", "", RATE_FORM, "What is downloaded from this upstream, at most."},
     UPSTREAM(rate), .type = OPTION_RATE},
    {{"upstream", "background-rate", "", RATE_FORM,
      "The same for work that no client waits for; it counts for rate too."},
     UPSTREAM(background_rate), .type = OPTION_RATE},
    {{"upstream", "addresses", "any", "any, ipv4 or ipv6",
      "The kind of addresses that are connected to."},
     UPSTREAM(addresses), .type = OPTION_WORD, .words = family_words},
    {{"upstream", "proxy", "", "http://HOST:PORT, or empty for none",
      "HTTP proxy that connections go through; the environment does not count."},
     UPSTREAM(proxy), .type = OPTION_PROXY},
    {{"upstream", "proxy-username", "", "name without a colon, or empty for none",
      "Who the proxy is asked as; the password is in proxy-password-file."},
     UPSTREAM(proxy_username), .type = OPTION_USERNAME},
    {{"upstream", "proxy-password-file", "", "absolute path, or empty for none",
      "File with the password of proxy-username in its first line."},
     UPSTREAM(proxy_password_file), .type = OPTION_PATH},
    {{"upstream", "ca-file", "", "absolute path, or empty for the system's certificates",
      "PEM file of the certificate authorities that are trusted for this upstream."},
     UPSTREAM(ca_file), .type = OPTION_PATH},
    {{"upstream", "certificate", "", "absolute path, or empty for none",
      "PEM file of the certificate that is shown to the upstream; its key is in key."},
     UPSTREAM(certificate), .type = OPTION_PATH},
    {{"upstream", "key", "", "absolute path, or empty for none",
      "PEM file of the key of certificate."},
     UPSTREAM(key), .type = OPTION_PATH},

    {{"access", "addresses", "private", "list of at most 16 ADDRESS, ADDRESS/BITS, private or any",
      "The addresses of the clients that the rule is for."},
     ACCESS(addresses), .type = OPTION_RANGES,
     .count_offset = offsetof(struct config_access, address_count)},
    {{"access", "users", "", "list of at most 64 names, or * for each in the password file",
      "The users that the rule is for; everybody, and without a password, when empty."},
     ACCESS(users), .type = OPTION_USERS,
     .count_offset = offsetof(struct config_access, user_count)},
    {{"access", "repositories", "**", "list of at most 16 patterns of REPOSITORY or HOST/REPOSITORY",
      "The repositories that the rule is for; ** is every local one."},
     ACCESS(repositories), .type = OPTION_PATTERNS,
     .count_offset = offsetof(struct config_access, repository_count)},
    {{"access", "allow", "pull", "list of pull, push and delete",
      "What the rule lets them do."},
     ACCESS(allow), .type = OPTION_FLAGS, .words = right_words},

    {{"prefetch", "references", "", "list of at most 64 [HOST/]REPOSITORY[:TAG], the tag with * and ? if need be",
      "The images that are fetched; nothing is when there are none."},
     PREFETCH(references), .type = OPTION_REFERENCES,
     .count_offset = offsetof(struct config_prefetch, reference_count)},
    {{"prefetch", "platforms", "", "list of at most 16 OS/ARCH[/VARIANT][:OS.VERSION], e.g. windows/amd64:10.0.20348",
      "The platforms that are fetched of an image for several; all when empty."},
     PREFETCH(platforms), .type = OPTION_PLATFORMS,
     .count_offset = offsetof(struct config_prefetch, platform_count)},
    {{"prefetch", "schedule", "daily 03:00",
      "daily HH:MM, weekly DAY HH:MM, every TIME, or patch-tuesday HH:MM[+TIME]",
      "When they are fetched; a time that was missed is made up for at the start."},
     PREFETCH(schedule), .type = OPTION_SCHEDULE},
    {{"prefetch", "zone", "", "name of a time zone, e.g. Europe/Berlin, or empty for the system's",
      "The time zone of the schedule."},
     PREFETCH(zone_name), .type = OPTION_ZONE},
    {{"prefetch", "keep", "0", "number from 0 to 31",
      "How many builds before the newest of each image stay pinned."},
     PREFETCH(keep), .type = OPTION_COUNT, .min = 0, .max = PREFETCH_KEEP_MAX},
};
/* clang-format on */

#define ROW_COUNT (sizeof rows / sizeof rows[0])
_Static_assert(ROW_COUNT <= OPTION_ROWS_MAX, "OPTION_ROWS_MAX must hold the table");

const struct option_row *option_rows(size_t *count)
{
    *count = ROW_COUNT;
    return rows;
}

const struct config_option *config_option_at(size_t i)
{
    return i < ROW_COUNT ? &rows[i].doc : NULL;
}

const char *section_name(enum section s)
{
    return section_names[s];
}
