#!/bin/sh
# Builds the workloads: `build.sh` makes the .wasm files (clang-22, lld-22), `build.sh reference` computes the results in
# workloads.tsv with a native build (gcc).
# Only MVP instructions and mutable globals are used, so that every engine can load them. The .wasm files are committed: running
# the benchmarks needs no compiler.
set -eu
cd "$(dirname "$0")"

CLANG="${CLANG:-clang-22}"
LINK="${LINK:-wasm-ld-22}"
FLAGS="--target=wasm32-unknown-unknown -mcpu=mvp -mmutable-globals -O2 -std=c11 -ffreestanding -fno-builtin -ffp-contract=off -Wall -Wextra -Werror"
PAGES="-z stack-size=65536 --no-entry"
NAMES="$(sed -n 's/^\([a-z][a-z0-9_]*\)\t.*/\1/p' workloads.tsv)"

if [ "${1:-}" = reference ]; then
  out="$(mktemp -d)"
  trap 'rm -r "$out"' EXIT
  while IFS="$(printf '\t')" read -r name modules n quick kind results; do
    case "$name" in
    '#'*) printf '%s\n' "$name" ;;
    *)
      case "$name" in
      dl*) gcc -std=gnu11 -O2 -ffp-contract=off -DDYNAMIC_PAIR native.c dlmain.c dlside.c -lm -o "$out/run" ;;
      *) gcc -std=gnu11 -O2 -ffp-contract=off native.c "${name%_shared}.c" -lm -o "$out/run" ;;
      esac
      printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$name" "$modules" "$n" "$quick" "$kind" "$("$out/run" "$n")" "$("$out/run" "$quick")"
      ;;
    esac
  done <workloads.tsv >"$out/workloads.tsv"
  cp "$out/workloads.tsv" workloads.tsv
  exit 0
fi

for name in $NAMES; do
  case "$name" in
  dl*) continue ;;
  esac
  $CLANG $FLAGS -c "${name%_shared}.c" -o "$name.o"
  case "$name" in
  # Loadable modules need a table that is exported and can grow; engines must not rely on its contents.
  calls_indirect | *_shared) $LINK $PAGES --export-table --growable-table "$name.o" -o "$name.wasm" ;;
  *) $LINK $PAGES "$name.o" -o "$name.wasm" ;;
  esac
done

SHARED="--export-table --growable-table --export=__stack_pointer --export=__heap_base"
$CLANG $FLAGS -fvisibility=default -c dlmain.c -o dlmain.o
$CLANG $FLAGS -fvisibility=default -c dlside.c -o dlside.o
$LINK $PAGES $SHARED dlmain.o dlside.o -o dlmono.wasm
$LINK $PAGES $SHARED --export=main_scale --export=main_note --export=main_counter --export=main_methods dlmain.o -o dlmain.wasm
$CLANG $FLAGS -fvisibility=default -fPIC -c dlside.c -o dlside.o
$LINK -shared --experimental-pic --export-dynamic --unresolved-symbols=import-dynamic dlside.o -o dlside.wasm
rm -f ./*.o
chmod 644 ./*.wasm
