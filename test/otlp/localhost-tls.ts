/** Of nobody but the tests: a key and its own certificate for `localhost`, for a hundred years. */
export const localhostKey = `-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgMrONeAyZIH4SriHC
ke+3toHuaUZYbD5v9+apAxdrnFOhRANCAARFKBVwW+Aj8tcuGhJO0BvHyeJTbabR
plCxj3C6v8oVWESj4BpAQRWvGeCpgveUdKq2UJp7txW/HEZrncxYAwSj
-----END PRIVATE KEY-----
`;

export const localhostCertificate = `-----BEGIN CERTIFICATE-----
MIIBlTCCATugAwIBAgIUbukqut+zGQkJJ/wz7ertWoZvJOowCgYIKoZIzj0EAwIw
FDESMBAGA1UEAwwJbG9jYWxob3N0MCAXDTI2MTEyODA1NTc0MVoYDzIxMjYxMTA0
MDU1NzQxWjAUMRIwEAYDVQQDDAlsb2NhbGhvc3QwWTATBgcqhkjOPQIBBggqhkjO
PQMBBwNCAARFKBVwW+Aj8tcuGhJO0BvHyeJTbabRplCxj3C6v8oVWESj4BpAQRWv
GeCpgveUdKq2UJp7txW/HEZrncxYAwSjo2kwZzAdBgNVHQ4EFgQULVCNnYff/Us2
avs6GaNN49MhWdcwHwYDVR0jBBgwFoAULVCNnYff/Us2avs6GaNN49MhWdcwDwYD
VR0TAQH/BAUwAwEB/zAUBgNVHREEDTALgglsb2NhbGhvc3QwCgYIKoZIzj0EAwID
SAAwRQIgB0k9KwlFczKKKYxDXznpLp9pIQgfxcwaSK5vOSqfUaQCIQCh3KgI4MJ4
BODKtR5tBumcZkD9fe65Npbs4aIXQ/TITg==
-----END CERTIFICATE-----
`;
