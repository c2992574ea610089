/* Chat rooms in memory: messages in the order in which they came, and those who wait for the next one.
 *
 * Bounded: each room keeps its newest messages, and there are so many rooms. A message's number is its place among the
 * messages of all rooms, beginning with 1. */
#ifndef ROOMS_H
#define ROOMS_H

#include <weft/http.h>

enum { MAX_ROOMS = 1000, MAX_MESSAGES = 100, MAX_SENDER = 255, MAX_BODY = 4000 };

struct rooms;
struct room;

struct rooms *rooms_new(void);
void rooms_free(struct rooms *rooms); /* nobody may hold a room */

/* The room of that name, with a reference. One that has no messages is forgotten with its last reference. */
struct room *rooms_open(struct rooms *rooms, const char *id);
void room_unref(struct room *room);

/* Adds a message, with its number in `*number`, and wakes those who wait. Fails when there are too many rooms. */
weft_error *room_post(struct room *room, const char *sender, const char *body, uint64_t *number);
/* The number of its newest message; 0 when it has none. */
uint64_t room_newest(const struct room *room);
/* The messages with a number above `since`, as {"messages": […], "next": the last number}. */
json_t *room_to_json(const struct room *room, uint64_t since);

/* Has a result, with no value, once the room has a message with a number above `since`. Hold the room meanwhile. */
weft_deferred *room_beyond(struct room *room, uint64_t since);

WEFT_AUTO(struct rooms, rooms_free)
WEFT_AUTO(struct room, room_unref)

#endif
