# An S3 service on 127.0.0.1 for the tests: moto's, which keeps everything in memory and checks signatures.
#
# The arguments are its folder, the port, `http` or `https`, the id and the secret of the one key that it knows, what it does with the
# conditions of a write (`kept`, `refused` or `ignored`), and the buckets that are there from the start; one that begins with
# `versioned` keeps versions. For https it makes a certificate and leaves
# it in the folder as `certificate.pem`.
import datetime
import ipaddress
import json
import os
import ssl
import sys
import threading

folder, port, scheme, key_id, secret, conditions, *buckets = sys.argv[1:]
os.environ["INITIAL_NO_AUTH_ACTION_COUNT"] = "0"

from moto.core import DEFAULT_ACCOUNT_ID as account
from moto.iam.models import iam_backends
from moto.s3.models import s3_backends
from moto.s3.responses import S3Response
from moto.server import create_backend_app
from werkzeug.datastructures import Headers
from werkzeug.serving import make_server

iam = iam_backends[account]["aws"]
iam.create_user("us-east-1", "sandbox")
key = iam.create_access_key("sandbox")
key.access_key_id, key.secret_access_key = key_id, secret
statement = {"Effect": "Allow", "Action": "s3:*", "Resource": "*"}
iam.put_user_policy("sandbox", "all", json.dumps({"Version": "2012-10-17", "Statement": [statement]}))
for bucket in buckets:
    s3_backends[account]["aws"].create_bucket(bucket, "us-east-1")
    if bucket.startswith("versioned"):
        s3_backends[account]["aws"].put_bucket_versioning(bucket, "Enabled")

one_at_a_time = threading.Lock()
service = create_backend_app("s3")
if conditions == "ignored":
    put_object = S3Response.put_object

    def put_anyway(self):
        # The headers are signed, and have been looked at by then.
        kept = [(name, value) for name, value in self.headers.items() if not name.lower().startswith("if-")]
        self.headers = Headers(kept)
        return put_object(self)

    S3Response.put_object = put_anyway
CONDITIONS = ("HTTP_IF_MATCH", "HTTP_IF_NONE_MATCH")
REFUSAL = b"<Error><Code>NotImplemented</Code><Message>A header that you provided implies what is not implemented.</Message></Error>"


def serve(environ, start_response):
    is_conditional = environ["REQUEST_METHOD"] == "PUT" and any(name in environ for name in CONDITIONS)
    if is_conditional and conditions == "refused":
        environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        start_response("501 Not Implemented", [("Content-Type", "application/xml")])
        return [REFUSAL]
    # A condition and the write that depends on it are two steps in moto; a real service does both at once.
    with one_at_a_time:
        return [b"".join(service(environ, start_response))]


def tls():
    """A context with a certificate of its own, valid for 127.0.0.1 and a day."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    private = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "sandbox")])
    now = datetime.datetime.now(datetime.timezone.utc)
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    builder = x509.CertificateBuilder(name, name, private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([address]), critical=False)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    certificate = builder.sign(private, hashes.SHA256())
    pem, key_pem = os.path.join(folder, "certificate.pem"), os.path.join(folder, "key.pem")
    with open(pem, "wb") as file:
        file.write(certificate.public_bytes(serialization.Encoding.PEM))
    with open(key_pem, "wb") as file:
        form = serialization.PrivateFormat.PKCS8
        file.write(private.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption()))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem, key_pem)
    return context


context = tls() if scheme == "https" else None
server = make_server("127.0.0.1", int(port), serve, threaded=True, ssl_context=context)
print("ready to serve", flush=True)
server.serve_forever()
