dnl SPDX-License-Identifier: Apache-2.0
dnl Options of configure that change how the compiler is called.

AC_DEFUN([BERTH_SANITIZERS], [
AC_ARG_ENABLE([sanitizers],
  [AS_HELP_STRING([--enable-sanitizers=LIST], [build with -fsanitize=LIST (address,undefined or thread)])],
  [berth_sanitizers=$enableval], [berth_sanitizers=])
AS_CASE([$berth_sanitizers], [yes], [berth_sanitizers=address,undefined], [no], [berth_sanitizers=])
SANITIZE_CFLAGS=
AS_IF([test -n "$berth_sanitizers"],
  [SANITIZE_CFLAGS="-fsanitize=$berth_sanitizers -fno-omit-frame-pointer -fno-sanitize-recover=undefined -g"])
AC_SUBST([SANITIZE_CFLAGS])
AM_CONDITIONAL([SANITIZERS], [test -n "$berth_sanitizers"])
])

AC_DEFUN([BERTH_FUZZING], [
AC_ARG_ENABLE([fuzzing],
  [AS_HELP_STRING([--enable-fuzzing], [link the fuzz targets with libFuzzer (needs clang); without it they replay files])],
  [berth_fuzzing=$enableval], [berth_fuzzing=no])
dnl Without it libFuzzer sees nothing of what an input reaches, and ends.
AS_IF([test "$berth_fuzzing" = yes], [SANITIZE_CFLAGS="$SANITIZE_CFLAGS -fsanitize=fuzzer-no-link -g"])
AM_CONDITIONAL([FUZZING], [test "$berth_fuzzing" = yes])
])

AC_DEFUN([BERTH_TRY_FLAG], [
  AC_MSG_CHECKING([whether $CC takes $1])
  berth_save_CFLAGS=$CFLAGS
  CFLAGS="$CFLAGS -Werror $1"
  AC_COMPILE_IFELSE([AC_LANG_PROGRAM([], [])],
    [AC_MSG_RESULT([yes]); $2="$$2 $1"], [AC_MSG_RESULT([no])])
  CFLAGS=$berth_save_CFLAGS
])

AC_DEFUN([BERTH_WARNINGS], [
AC_ARG_ENABLE([werror],
  [AS_HELP_STRING([--enable-werror], [make warnings errors])], [berth_werror=$enableval], [berth_werror=no])
WARN_CFLAGS=
m4_foreach_w([berth_flag], [-Wall -Wextra -Wpedantic -Wshadow -Wvla -Walloca -Wundef -Wpointer-arith -Wcast-align
  -Wwrite-strings -Wstrict-prototypes -Wold-style-definition -Wmissing-prototypes -Wmissing-declarations
  -Wredundant-decls -Wnested-externs -Wformat=2 -Wimplicit-fallthrough -Wswitch-enum -Wnull-dereference
  -Wdouble-promotion -Wdate-time -Winit-self -Wunused-macros -Wframe-larger-than=16384 -fno-common
  -Wlogical-op -Wduplicated-cond -Wjump-misses-init -Wextra-semi-stmt],
  [BERTH_TRY_FLAG(berth_flag, [WARN_CFLAGS])])
STRICT_CFLAGS=
m4_foreach_w([berth_flag], [-Wcast-qual -Wconversion -Wsign-conversion -Wformat-signedness],
  [BERTH_TRY_FLAG(berth_flag, [STRICT_CFLAGS])])
AS_IF([test "$berth_werror" = yes], [WARN_CFLAGS="$WARN_CFLAGS -Werror"])
HARDEN_CFLAGS="-fstack-protector-strong -fstack-clash-protection"
AS_IF([test -z "$berth_sanitizers"], [HARDEN_CFLAGS="$HARDEN_CFLAGS -D_FORTIFY_SOURCE=2"])
AC_SUBST([WARN_CFLAGS])
AC_SUBST([STRICT_CFLAGS])
AC_SUBST([HARDEN_CFLAGS])
])
