/** An RSA key of 2,048 bits for vectors and tests alone: making one takes a tenth of a second, and vectors stay the same. It is no secret. */
const pkcs8 = [
  'MIIEvgIBADANBgkqhkiG9w0BAQEFAASCBKgwggSkAgEAAoIBAQC0WXgH4FqAnc2kILIdVHgTzg7dVPMNAs5M0bN4Vrc0eEYCYhaL',
  'K+mS75ZOWRqNiW0XAYjCGTr5oBstPjqHZr12aLPo5iGTSJEQnbbozRsUI+bsZSRWXxtsoIv8MdqNsPRUcdFc+PQ0ZY/5GW+3iNPT',
  '9zj4iN0tW4wWuLPjOIP99GzVO5foutRr6CiAgjMecjBVYTLu5q+cTtc/vngzpUuMx5XDVH1Xw20ad7gSRbMJCzI5A7TGxe3NSAYv',
  'lNEcKAcAIJywWAuJDRW1KUrnCdPmvNo9G/MCc+5fOl4pzpSMy+YR3G7fF0jNVOiojBbzX/9L56baw21ui0HQEZlqMkV9AgMBAAEC',
  'ggEAInkwpbbHreqcHpmmWk9lZYm/kyS0EeJdq1bxSpkuy1+LKFT2ELO74ducvEyxc+kXOmzPZqS6fnFRiJAq0Wt830erziLBO71F',
  'B2tSRYVBPhQPxdOegskKvbShlXs1Ft0CkyqvdalbyrE4OEoZrfhAX3XUBMPqnUswx74WGqKYrl/qi0HcierfnhXkS+D4HdjIpcSP',
  'D7sAC4eOoKQSYXhuazZACoPABdCJa31mArfNqFk9rSHIPzYhmttMRbRZnVI/FX/VNuljvOihuMKMiONQLQqhELZzQsVpgm1TgwF7',
  'LXxFYQqptEMcLfgDgfEVx6JJOr9s7mxcF7mFvrgv95fwkQKBgQDcMas2BYpFrth14UdHdDAvaTTp6RKBPpQ9VoSxv7xy8iU19Vzs',
  '8IlTfmN5UzurmRfJWjZL+gBPGsS+mjWqCiTD4oZWAPqjFXZZFVOclEDbByCZ+JXIPRVw89+I9MufvGqBtIV4phNDONAERJpREJ0a',
  'ZiGea3olU0GEXmPggVT7TQKBgQDRrSKD7V5KmOvI6/hWPA58ZxfWhFvYsJzuS5E1NPoxZfQN/vxZrk4q/+zgTnlrjXYw3+q96Jea',
  'YB56qB+y+mmir+1h+gdd2YIYJt8pfoZu2vxXaf9NyabjEY35S146PS9X4eNmQFsX5ND2rlkXEPWbhK0st0ED5C525A1WAat68QKB',
  'gQDHnkudtNYOqBzaePmaoI2SXak3qTE6dBYFqWqwjab0+eqcCS1OLB4C0GCzu64ruaVjx+HTbPhcvmLAfKLL3VhJMRIh489Ui393',
  '8SqUl55YMhTvIPoAxseqV5w919bFoBVaMuKRZtWtqlKCnALeHNaf+RjfOoZIUjriGoQnInh9PQKBgQCjAdzhf7pceEJmc70fHZWN',
  'dYB8z22wKq32PF1pZgRUPxTbhK6e8fnnSAvZ3mhbCyElog8XESo7ZBqN9QKf3DoftnHwR7dOaPjQ2feIhMryh+DB/K/0w56wzUb4',
  '1nUtBcA2rHBjYAjxrHwgKy8r1Y18GEuhhd5PrifJWkZb5PRxoQKBgFKfSjqJalqBOHiTXlwrS6Bh9pg/gz4GURn2ylMTiPnrDiBW',
  '6Ka4euxiyVdrb0JuPB840KWgVftCUPxqdkK8eWI6t6/Yp4GZi2DZCghmn7iIwEmEfyL+T+VtiTLE+fk9D4QtVIjz7tbJjMs76ThV',
  '9iRHpYfzBK9Y27ygxoiZI+0D',
].join('')

/** DER of a PKCS#8 `PrivateKeyInfo`. */
export const rsaTestSecret: Uint8Array = Uint8Array.from(Buffer.from(pkcs8, 'base64'))
