/* SPDX-License-Identifier: ISC */
/* The version: configure gives it on the command line of the compiler. */
#ifndef PROXY_VERSION_H
#define PROXY_VERSION_H

#ifdef PACKAGE_VERSION
#define CACHALOT_VERSION PACKAGE_VERSION
#else
#define CACHALOT_VERSION "unversioned"
#endif

#endif
