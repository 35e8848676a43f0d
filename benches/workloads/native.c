/* Runs a workload natively, for reference results: `native N` prints run(N) as hexadecimal. */
#include <stdio.h>
#include <stdlib.h>
unsigned long long run(int n);
#ifdef DYNAMIC_PAIR
const void *side_api(void);
void attach(const void *api);
#endif
int main(int count, char **arguments) {
#ifdef DYNAMIC_PAIR
  attach(side_api());
#endif
  for (int i = 1; i < count; i++)
    printf("%016llx\n", run(atoi(arguments[i])));
  return 0;
}
