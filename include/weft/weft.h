/* weft/weft.h: the whole core, and the reactor and fibers on top of it. HTTP is <weft/http.h>. */
#ifndef WEFT_WEFT_H
#define WEFT_WEFT_H

#include <weft/base.h>
#include <weft/clock.h>
#include <weft/context.h>
#include <weft/deferred.h>
#include <weft/error.h>
#include <weft/fiber.h>
#include <weft/live.h>
#include <weft/log.h>
#include <weft/reactor.h>
#include <weft/result.h>

#endif
