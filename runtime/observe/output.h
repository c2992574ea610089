/* A sink that writes: a format, a device, and between them a queue with a thread, if it has one. */
#ifndef WEFT_RUNTIME_OBSERVE_OUTPUT_H
#define WEFT_RUNTIME_OBSERVE_OUTPUT_H

/* The system's clock gives records their time, unless the program has set another one. */
void weft__log_need_clock(void);

#endif
