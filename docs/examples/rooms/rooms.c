/* Rooms: a table of names, per room a ring of messages and a line of waiters.
 *
 * A room is held by whoever opened it; the table only finds it, and keeps one with messages alive. A waiter is freed by
 * whoever takes it out of the line: the message that came, or the cancellation of its deferred. */
#include "rooms.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <uthash.h>
#include <utlist.h>

struct message {
    uint64_t number;
    char *sender;
    char *body;
};

struct waiter {
    struct room *room;
    weft_deferred *deferred;
    struct waiter *prev, *next;
};

struct room {
    struct rooms *rooms;
    char *id;
    size_t references;
    struct message messages[MAX_MESSAGES]; /* the n-th ever posted lies at n % MAX_MESSAGES */
    size_t posted;
    struct waiter *waiters;
    UT_hash_handle hh;
};

struct rooms {
    struct room *by_id;
    size_t kept; /* rooms with messages */
    uint64_t last_number;
};

/* ---- life ---- */

struct rooms *rooms_new(void)
{
    return weft_alloc_zeroed(sizeof(struct rooms));
}

static void message_clear(struct message *message)
{
    weft_free(message->sender);
    weft_free(message->body);
}

static void room_free(struct room *room)
{
    HASH_DEL(room->rooms->by_id, room);
    for (size_t i = 0; i < MAX_MESSAGES; i++)
        message_clear(&room->messages[i]);
    weft_free(room->id);
    weft_free(room);
}

void rooms_free(struct rooms *rooms)
{
    struct room *room, *next;

    HASH_ITER (hh, rooms->by_id, room, next)
        room_free(room);
    weft_free(rooms);
}

struct room *rooms_open(struct rooms *rooms, const char *id)
{
    struct room *room;

    HASH_FIND_STR(rooms->by_id, id, room);
    if (!room) {
        room = weft_alloc_zeroed(sizeof *room);
        room->rooms = rooms;
        room->id = weft_strdup(id);
        HASH_ADD_KEYPTR(hh, rooms->by_id, room->id, strlen(room->id), room);
    }
    room->references++;
    return room;
}

void room_unref(struct room *room)
{
    if (!--room->references && !room->posted)
        room_free(room);
}

/* ---- waiting ---- */

static void waiter_leave(struct waiter *waiter)
{
    DL_DELETE(waiter->room->waiters, waiter);
    weft_deferred_unref(waiter->deferred);
    weft_free(waiter);
}

static weft_cancel_outcome waiter_cancel(weft_deferred *deferred, void *arg)
{
    (void)deferred;
    waiter_leave(arg);
    return WEFT_CANCEL_DONE;
}

/* Fibers that wait run later; so the line does not grow while it is emptied. */
static void wake_waiters(struct room *room)
{
    while (room->waiters) {
        struct waiter *waiter = room->waiters;

        weft_deferred_callback(waiter->deferred, weft_ok(NULL));
        waiter_leave(waiter);
    }
}

weft_deferred *room_beyond(struct room *room, uint64_t since)
{
    struct waiter *waiter;

    if (room_newest(room) > since)
        return weft_deferred_with(weft_ok(NULL));
    waiter = weft_alloc(sizeof *waiter);
    *waiter = (struct waiter){.room = room, .deferred = weft_deferred_new(waiter_cancel, waiter)};
    DL_APPEND(room->waiters, waiter);
    return weft_deferred_ref(waiter->deferred);
}

/* ---- messages ---- */

weft_error *room_post(struct room *room, const char *sender, const char *body, uint64_t *number)
{
    struct rooms *rooms = room->rooms;
    struct message *message = &room->messages[room->posted % MAX_MESSAGES];

    if (!room->posted && rooms->kept == MAX_ROOMS)
        return weft_http_error(403, "M_RESOURCE_LIMIT_EXCEEDED", "There are %d rooms already", MAX_ROOMS);
    rooms->kept += !room->posted;
    room->posted++;
    message_clear(message);
    *message = (struct message){++rooms->last_number, weft_strdup(sender), weft_strdup(body)};
    *number = message->number;
    wake_waiters(room);
    return NULL;
}

uint64_t room_newest(const struct room *room)
{
    return room->posted ? room->messages[(room->posted - 1) % MAX_MESSAGES].number : 0;
}

static json_t *message_to_json(const struct message *message)
{
    char id[32];

    snprintf(id, sizeof id, "$%" PRIu64, message->number);
    return json_pack("{s:s, s:s, s:s}", "event_id", id, "sender", message->sender, "body", message->body);
}

json_t *room_to_json(const struct room *room, uint64_t since)
{
    json_t *messages = json_array();
    size_t first = room->posted > MAX_MESSAGES ? room->posted - MAX_MESSAGES : 0;
    uint64_t next = since;

    for (size_t i = first; i < room->posted; i++) {
        const struct message *message = &room->messages[i % MAX_MESSAGES];

        if (message->number <= since)
            continue;
        json_array_append_new(messages, message_to_json(message));
        next = message->number;
    }
    return json_pack("{s:o, s:I}", "messages", messages, "next", (json_int_t)next);
}
