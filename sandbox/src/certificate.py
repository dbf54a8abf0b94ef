# Makes, in the folder of its argument, an authority of its own (`ca.pem`) and a certificate that it signed for 127.0.0.1
# (`certificate.pem`, `key.pem`), valid for a day; and an authority that signed nothing (`other-ca.pem`).
import datetime
import ipaddress
import os
import sys

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

folder = sys.argv[1]
now = datetime.datetime.now(datetime.timezone.utc)


def name(text):
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


def write(file, pem):
    with open(os.path.join(folder, file), "wb") as file:
        file.write(pem)


def certificate(subject, private, issuer, signer, extensions):
    builder = x509.CertificateBuilder(name(issuer), name(subject), private.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - datetime.timedelta(hours=1))
    builder = builder.not_valid_after(now + datetime.timedelta(days=1))
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def authority(file):
    private = ec.generate_private_key(ec.SECP256R1())
    write(file, certificate(file, private, file, private, [(x509.BasicConstraints(ca=True, path_length=None), True)]))
    return private


signer = authority("ca.pem")
authority("other-ca.pem")
private = ec.generate_private_key(ec.SECP256R1())
address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
basic = x509.BasicConstraints(ca=False, path_length=None)
write("certificate.pem", certificate("sandbox", private, "ca.pem", signer, [(address, False), (basic, True)]))
form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
write("key.pem", private.private_bytes(serialization.Encoding.PEM, form, encryption))
