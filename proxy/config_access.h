/* SPDX-License-Identifier: ISC */
/* The sections [access NAME] and [auth]: who may do what, and how clients say who they are. */
#ifndef PROXY_CONFIG_ACCESS_H
#define PROXY_CONFIG_ACCESS_H

#include "proxy/config_listener.h"
#include "proxy/right.h"

#define CONFIG_USERS_MAX 64
#define CONFIG_PATTERNS_MAX 16
#define CONFIG_USER_SIZE 128 /* of a user's name, with the NUL */

struct passwords;
struct signature_key;

/* A rule. It lets a request that all of its parts fit. */
struct config_access {
    char *name;
    char *addresses[CONFIG_RANGES_MAX]; /* for config_address_matches */
    unsigned address_count;
    char *users[CONFIG_USERS_MAX]; /* "*" is anybody who is known; none: anonymous ones too */
    unsigned user_count;
    char *repositories[CONFIG_PATTERNS_MAX]; /* for config_repository_matches */
    unsigned repository_count;
    unsigned allow; /* of enum right */
};

/* NULL is what is not given. */
struct config_auth {
    char *password_file;
    char *realm; /* for people, of Basic */
    char *token_key;
    char *token_realm; /* url of the token server */
    char *token_service;
    char *token_issuer;
    /* What is in the files; NULL when none is named, and from config_load_stream. */
    struct passwords *passwords;
    struct signature_key *key;
};

#endif
