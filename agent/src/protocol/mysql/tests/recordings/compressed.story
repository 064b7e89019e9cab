LoggedIn app@shop mysql  #40
Query 'select 1' 8
  1 results, 0 rows, 0 affected, unknown
Query packed 32 zlib
  1 results, 0 rows, 0 affected, unknown
Query 'SELECT DATABASE()' 17
  1 results, 0 rows, 0 affected, unknown
Utility -
IdentityChanged app@mysql mysql  #40
  0 results, 0 rows, 0 affected
Query 'select nope' 11
  1 results, 0 rows, 0 affected, error 1054 42S22
Query 'select * from user' 18
  1 results, 0 rows, 0 affected, unknown
Query 'select 2' 8
  1 results, 0 rows, 0 affected, unknown
Query packed 701 zlib
  1 results, 0 rows, 0 affected, unknown
Query packed 74 zlib
  1 results, 0 rows, 0 affected, unknown
Query 'set @a=1' 8
  1 results, 0 rows, 0 affected
Query 'select 3' 8
  1 results, 0 rows, 0 affected, unknown
Quit
