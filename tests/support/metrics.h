/* tests/support/metrics.h: what the metrics of this process tell. */
#ifndef WEFT_TEST_METRICS_H
#define WEFT_TEST_METRICS_H

/* The lines that begin with `name`, and, unless that ends in a blank, those that tell what it is. Good until the next call. */
const char *told_lines(const char *name);
void check_told(const char *name, const char *expected);

/* The value of a series, given as the text has it, name{a="b"}; -1 when it is not there. */
double told_value(const char *series);

#endif
