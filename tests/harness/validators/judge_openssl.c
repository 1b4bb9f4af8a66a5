/* Asks OpenSSL's libcrypto as `openssl verify -x509_strict`, `openssl crl` and `openssl ocsp` do.
   One line for each case: empty, or the reason to refuse. */
#include "cases.h"

#include <openssl/err.h>
#include <openssl/ocsp.h>
#include <openssl/x509_vfy.h>
#include <openssl/x509v3.h>

static const char *last(const char *otherwise) {
    unsigned long code = ERR_peek_last_error();
    return code ? ERR_error_string(code, NULL) : otherwise;
}

static X509 *certificate(struct blob blob) {
    const unsigned char *at = blob.data;
    X509 *made = d2i_X509(NULL, &at, blob.size);
    return made && at == blob.data + blob.size ? made : NULL;
}

static X509_CRL *crl_of(struct blob blob) {
    const unsigned char *at = blob.data;
    X509_CRL *made = d2i_X509_CRL(NULL, &at, blob.size);
    return made && at == blob.data + blob.size ? made : NULL;
}

static const char *listed(X509 *issuer, struct blob blob, time_t at) {
    X509_CRL *crl = crl_of(blob);
    if (!crl) return last("not a CRL");
    if (X509_NAME_cmp(X509_CRL_get_issuer(crl), X509_get_subject_name(issuer))) return "the CRL is by another issuer";
    if (X509_CRL_verify(crl, X509_get0_pubkey(issuer)) != 1) return last("the CRL's signature is wrong");
    if (X509_cmp_time(X509_CRL_get0_lastUpdate(crl), &at) > 0 || X509_cmp_time(X509_CRL_get0_nextUpdate(crl), &at) < 0)
        return "the CRL is not current";
    return "";
}

static int purpose_of(const char *oid) {
    static const struct {
        const char *oid;
        int purpose;
    } known[] = {{"1.3.6.1.5.5.7.3.1", X509_PURPOSE_SSL_SERVER},
                 {"1.3.6.1.5.5.7.3.2", X509_PURPOSE_SSL_CLIENT},
                 {"1.3.6.1.5.5.7.3.4", X509_PURPOSE_SMIME_SIGN},
                 {"1.3.6.1.5.5.7.3.9", X509_PURPOSE_OCSP_HELPER}};
    for (unsigned i = 0; i < sizeof known / sizeof *known; i++)
        if (!strcmp(oid, known[i].oid)) return known[i].purpose;
    return 0; /* 3.0 has none for code signing */
}

static void want(struct question *q, X509_VERIFY_PARAM *param) {
    unsigned long flags = X509_V_FLAG_X509_STRICT | X509_V_FLAG_CHECK_SS_SIGNATURE;
    if (q->crlss) {
        flags |= X509_V_FLAG_CRL_CHECK | X509_V_FLAG_EXTENDED_CRL_SUPPORT | X509_V_FLAG_USE_DELTAS;
        if (!q->leaf_only) flags |= X509_V_FLAG_CRL_CHECK_ALL;
    }
    X509_VERIFY_PARAM_set_flags(param, flags);
    X509_VERIFY_PARAM_set_time(param, q->at);
    if (purpose_of(q->purpose)) X509_VERIFY_PARAM_set_purpose(param, purpose_of(q->purpose));
    if (*q->host) X509_VERIFY_PARAM_set1_host(param, q->host, 0);
}

static const char *verified(struct question *q, X509_STORE *store, X509 *leaf, STACK_OF(X509) *chain) {
    X509_STORE_CTX *context = X509_STORE_CTX_new();
    if (!X509_STORE_CTX_init(context, store, leaf, chain)) return last("not begun");
    want(q, X509_STORE_CTX_get0_param(context));
    if (X509_verify_cert(context) == 1) return "";
    return X509_verify_cert_error_string(X509_STORE_CTX_get_error(context));
}

static const char *answered(struct question *q, X509_STORE *store, X509 *leaf, STACK_OF(X509) *chain, X509 *issuer) {
    const unsigned char *at = q->ocsp.data;
    OCSP_RESPONSE *answer = d2i_OCSP_RESPONSE(NULL, &at, q->ocsp.size);
    if (!answer) return last("not an OCSP answer");
    if (OCSP_response_status(answer)) return "the responder refused";
    OCSP_BASICRESP *basic = OCSP_response_get1_basic(answer);
    X509_VERIFY_PARAM_set_time(X509_STORE_get0_param(store), q->at);
    if (!basic || OCSP_basic_verify(basic, chain, store, 0) != 1) return last("the answer is not signed by who may");
    for (int i = 0; i < OCSP_resp_count(basic); i++) {
        OCSP_SINGLERESP *single = OCSP_resp_get0(basic, i);
        ASN1_OBJECT *algorithm;
        OCSP_CERTID *about = (OCSP_CERTID *)OCSP_SINGLERESP_get0_id(single);
        OCSP_id_get0_info(NULL, &algorithm, NULL, NULL, about);
        const EVP_MD *hash = EVP_get_digestbyobj(algorithm);
        if (!hash || OCSP_id_cmp(OCSP_cert_to_id(hash, leaf, issuer), about)) continue;
        ASN1_GENERALIZEDTIME *from, *until;
        int status = OCSP_single_get0_status(single, NULL, NULL, &from, &until);
        time_t now = q->at;
        if (X509_cmp_time(from, &now) > 0 || (until && X509_cmp_time(until, &now) < 0))
            return "the answer is not current";
        return status == V_OCSP_CERTSTATUS_GOOD ? "" : OCSP_cert_status_str(status);
    }
    return "the answer is about others";
}

static const char *judge(struct question *q) {
    X509 *leaf = certificate(q->leaf), *issuer = NULL;
    if (!leaf) return last("not a certificate");
    if (q->listing) return listed(leaf, q->crls[0], q->at);
    STACK_OF(X509) *chain = sk_X509_new_null();
    for (unsigned i = 0; i < q->chains; i++) {
        X509 *link = certificate(q->chain[i]);
        if (!link) return last("not a certificate");
        sk_X509_push(chain, link);
        issuer = issuer ? issuer : link;
    }
    X509_STORE *store = X509_STORE_new();
    for (unsigned i = 0; i < q->rootss; i++) {
        X509 *root = certificate(q->roots[i]);
        if (!root || !X509_STORE_add_cert(store, root)) return last("a root was not taken");
        issuer = issuer ? issuer : root;
    }
    for (unsigned i = 0; i < q->crlss; i++) {
        X509_CRL *crl = crl_of(q->crls[i]);
        if (!crl || !X509_STORE_add_crl(store, crl)) return last("a CRL was not taken");
    }
    const char *reason = verified(q, store, leaf, chain);
    return *reason || !q->ocsp.size ? reason : answered(q, store, leaf, chain, issuer);
}

int main(void) {
    static struct question q;
    while (next(&q)) {
        ERR_clear_error();
        puts(judge(&q));
    }
    return 0;
}
