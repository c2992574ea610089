/* Loggers and their levels.
 *
 * What was set is a list of names with levels, longer than a screen in no program. Each logger that was used holds the
 * level that comes out of it for its own name, so that a line which is not made looks at nothing but that: one load.
 * Whatever changes goes through all loggers again, under one lock. A logger that was not used yet has a level below all
 * others, and so comes here by itself. */
#include <assert.h>
#include <pthread.h>
#include <string.h>
#include <strings.h>

#include "lib/log.h"

struct setting {
    struct setting *next;
    weft_log_level level;
    char name[];
};

weft_logger weft_root_logger = {"root", false, WEFT_LOG_INFO, NULL};
weft_logger weft__logger_lib = WEFT_LOGGER("weft.core");

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct setting *settings;                  /* but the root's */
static weft_log_level root_level = WEFT_LOG_INFO;
static weft_log_level wanted = WEFT_LOG_DEBUG;    /* the least that a sink takes */
static weft_logger *loggers = &weft_root_logger;  /* those that were used */

static bool is_root(const char *name)
{
    return !*name || !strcmp(name, weft_root_logger.name);
}

/* ---- what holds for a name ---- */

/* Whether `above` is `name` or above it: "a.b" is above "a.b.c", and not above "a.bc". */
static bool reaches(const char *above, const char *name)
{
    size_t length = strlen(above);

    return !strncmp(above, name, length) && (!name[length] || name[length] == '.');
}

/* The longest name that reaches it; NULL: only the root does. */
static const struct setting *nearest(const char *name)
{
    const struct setting *found = NULL;

    for (const struct setting *setting = settings; setting; setting = setting->next) {
        if (reaches(setting->name, name) && (!found || strlen(setting->name) > strlen(found->name)))
            found = setting;
    }
    return found;
}

static weft_log_level level_of(const char *name)
{
    const struct setting *setting = is_root(name) ? NULL : nearest(name);

    return setting ? setting->level : root_level;
}

static weft_log_level level_of_logger(const weft_logger *logger)
{
    const struct setting *setting;

    if (!logger->explicit_only)
        return level_of(logger->name);
    setting = nearest(logger->name);
    return setting && !strcmp(setting->name, logger->name) ? setting->level : WEFT_LOG_OFF;
}

static void refresh(weft_logger *logger)
{
    weft_log_level level = level_of_logger(logger);

    __atomic_store_n(&logger->weft__level, (int)(level > wanted ? level : wanted), __ATOMIC_RELAXED);
}

static void refresh_all(void)
{
    for (weft_logger *logger = loggers; logger; logger = logger->weft__next)
        refresh(logger);
}

bool weft_logger_enlist(weft_logger *logger, weft_log_level level)
{
    int least;

    pthread_mutex_lock(&lock);
    if (logger->weft__level < 0) { /* else another thread was faster */
        logger->weft__next = loggers;
        loggers = logger;
        refresh(logger);
    }
    least = logger->weft__level;
    pthread_mutex_unlock(&lock);
    return (int)level >= least;
}

void weft__loggers_set_wanted(weft_log_level level)
{
    pthread_mutex_lock(&lock);
    wanted = level;
    refresh_all();
    pthread_mutex_unlock(&lock);
}

void weft__loggers_before_fork(void)
{
    pthread_mutex_lock(&lock);
}

void weft__loggers_after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

/* ---- setting it ---- */

static struct setting *setting_for(const char *name)
{
    struct setting *setting = settings;

    while (setting && strcmp(setting->name, name) != 0)
        setting = setting->next;
    if (!setting) {
        size_t size = strlen(name) + 1;

        setting = weft_alloc(sizeof *setting + size);
        memcpy(setting->name, name, size);
        setting->next = settings;
        settings = setting;
    }
    return setting;
}

static void set_level(const char *name, weft_log_level level)
{
    if (is_root(name))
        root_level = level;
    else
        setting_for(name)->level = level;
}

void weft_log_set_level(const char *name, weft_log_level level)
{
    pthread_mutex_lock(&lock);
    set_level(name, level);
    refresh_all();
    pthread_mutex_unlock(&lock);
}

weft_log_level weft_log_get_level(const char *name)
{
    weft_log_level level;

    pthread_mutex_lock(&lock);
    level = level_of(name);
    pthread_mutex_unlock(&lock);
    return level;
}

const char *weft_log_level_name(weft_log_level level)
{
    static const char *const names[] = {"DEBUG", "INFO", "WARN", "ERROR", "OFF"};

    return names[level];
}

/* ---- setting several, from text ---- */

static bool read_level(const char *text, weft_log_level *out)
{
    for (int level = WEFT_LOG_DEBUG; level <= WEFT_LOG_OFF; level++) {
        if (!strcasecmp(text, weft_log_level_name((weft_log_level)level))) {
            *out = (weft_log_level)level;
            return true;
        }
    }
    return false;
}

/* Goes through the parts of `text`, which it cuts, and sets what they say when `doing`; the first that makes no sense, or
 * NULL. */
static const char *each_part(char *text, bool doing)
{
    char *rest, *part;

    for (part = strtok_r(text, ",", &rest); part; part = strtok_r(NULL, ",", &rest)) {
        char *equals = strchr(part, '=');
        weft_log_level level;

        if (!read_level(equals ? equals + 1 : part, &level))
            return part;
        if (equals)
            *equals = '\0';
        if (doing)
            set_level(equals ? part : "", level);
    }
    return NULL;
}

weft_error *weft_log_set_levels(const char *text)
{
    char *copy = weft_strdup(text);
    const char *bad = each_part(copy, false);
    weft_error *error = NULL;

    if (bad) {
        error = weft_error_new(&WEFT_MISUSE, "\"%s\", at character %zu of \"%s\", is no level nor a name=level; levels are "
                               "debug, info, warn, error and off", bad, (size_t)(bad - copy) + 1, text);
    } else {
        memcpy(copy, text, strlen(text) + 1);
        pthread_mutex_lock(&lock);
        each_part(copy, true);
        refresh_all();
        pthread_mutex_unlock(&lock);
    }
    weft_free(copy);
    return error;
}
