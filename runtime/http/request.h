/* A request, from its first byte until its line is logged. */
#ifndef WEFT_RUNTIME_HTTP_REQUEST_H
#define WEFT_RUNTIME_HTTP_REQUEST_H

#include <llhttp.h>

#include "lib/context.h"
#include "runtime/http/router.h"

enum weft__phase {
    WEFT__IN_HEAD,
    WEFT__IN_BODY,
    WEFT__WHOLE, /* read to its end, or refused; its handler may be running */
};

/* Bytes of the head, counted from its first one. */
struct weft__span {
    uint32_t start;
    uint32_t size;
};

struct weft__header {
    struct weft__span name;
    struct weft__span value;
};

struct weft__pair {
    const char *name;
    const char *value;
};

/* An answer that the server gives by itself. Everything in it is static. */
struct weft__refusal {
    int status; /* 0: none */
    const char *errcode;
    const char *message;
};

enum { WEFT__OWN_HEADERS = 16, WEFT__OWN_TEXT = 768 };

struct weft__connection;

struct weft_request {
    llhttp_t parser; /* first: its callbacks get the request */
    struct weft__connection *connection;
    struct weft__refusal refusal;
    struct weft_request *next; /* in the connection's line of those whose answer is on its way */
    int64_t began;             /* when its head was read, then when its handler was started */
    int64_t ended;             /* when its handler had ended */
    struct weft__field_source fields; /* of its context */
    size_t bytes_in;           /* of head and body, as they came */

    /* Its text (reading.c). */
    const char *chunk;   /* what is being read */
    size_t chunk_size;
    uintptr_t origin;    /* where the head would begin, if all of it lay before the chunk */
    char *text;          /* the head, as it came */
    uint32_t text_room;
    uint32_t header_room;
    struct weft__header *headers;
    struct weft__span target;

    /* What was made of it (request.c). */
    const char *path;
    size_t path_size;
    char *spare; /* free memory … */
    char *spare_end;
    const char *params[WEFT__MAX_PARAMS];

    /* From here to `own_headers` all is zero at first. */
    const struct weft__route *route;
    const struct weft__route *others; /* of a 405: the routes on its path */
    struct weft__endpoint *endpoint;  /* what it is counted as, while it is in flight */
    weft_context *context;
    weft_deferred *handler;   /* while it waits */
    char *query;              /* NULL: none; not decoded */
    const char *uri;          /* as logs have it, once somebody has asked; and the client's host */
    const char *host;
    struct weft__pair *pairs; /* the query, decoded, once somebody has asked */
    void *kept;               /* memory that goes with it, linked by its first pointers */
    char *body;
    size_t body_size;
    size_t body_room;
    size_t forgotten;    /* bytes between chunks and behind them */
    size_t body_length;  /* as the head says; 0: not known, or none */
    size_t answer_size;  /* bytes of the answer's body, which are the last … */
    uint64_t answer_end; /* … of those the connection has sent when the answer has left */
    uint32_t text_size;  /* how much of the head was read before the chunk */
    uint32_t header_count;
    uint32_t pair_count;
    uint16_t status;     /* of its answer; 0: none yet */
    uint8_t phase;       /* enum weft__phase */
    uint8_t span;        /* which kind the parser was in last */
    bool begun;          /* the parser has seen its first byte; before it there may be blank lines */
    bool keep_alive;
    bool wants_continue;
    bool body_is_own;    /* it lies behind the head, in `own_text` */
    bool answered;
    bool cancelled;
    weft_error *cancellation; /* asked before the handler first waited */

    struct weft__header own_headers[WEFT__OWN_HEADERS];
    char own_text[WEFT__OWN_TEXT] __attribute__((aligned(8)));
};

/* From the server's pool. */
struct weft_request *weft__request_new(struct weft__connection *connection);
void weft__request_free(struct weft_request *request);

/* Memory that lasts as long as the request. */
void *weft__request_keep(struct weft_request *request, size_t size);

/* ---- reading.c ---- */

void weft__request_read_init(struct weft_request *request);

enum weft__reading {
    WEFT__READ_NOTHING, /* blank lines */
    WEFT__READ_PART,
    WEFT__READ_WHOLE,
    WEFT__READ_REFUSED, /* `refusal` says why; what follows cannot be read */
};

/* Reads on. `*used` is how much of the data belonged to this request, or came before it. */
enum weft__reading weft__request_read(struct weft_request *request, const char *data, size_t size, size_t *used);

static inline bool weft__request_is_being_read(const struct weft_request *request)
{
    return request->phase != WEFT__WHOLE;
}

/* Finds the path, the query, the route and its parameters; or a refusal. */
void weft__request_resolve(struct weft_request *request);

/* ---- fields.c ---- */

/* Its context is as known as it is: fields, what it counts as, and what it has received. */
void weft__request_introduce(struct weft_request *request);
/* What logs may show: without secrets, cut where it is very long. Lasts as long as the request. */
const char *weft__request_uri(struct weft_request *request);
const char *weft__request_host(struct weft_request *request);
const char *weft__request_protocol(struct weft_request *request);

/* ---- request_line.c ---- */

void weft__request_line_log(struct weft_request *request, int64_t now);
/* How many bytes of its answer's body have been sent. */
size_t weft__request_body_sent(const struct weft_request *request);

#endif
