/* SPDX-License-Identifier: Apache-2.0 */
#ifndef KUBELITE_NET_SERVER_TLS_INTERNAL_H
#define KUBELITE_NET_SERVER_TLS_INTERNAL_H

#include "net/server-tls.h"

#include <openssl/ssl.h>

int server_tls_apply(SSL_CTX *ctx, const ServerTls *tls, KlError **err);
int server_tls_use(SSL_CTX *ctx, const char *cert_pem, const char *key_pem, KlError **err);

/* References of what the peer sent; NULL if it sent nothing or out of memory. */
ClientChain *client_chain_of(SSL *ssl);
ClientChain *client_chain_free(ClientChain *chain);

#endif
