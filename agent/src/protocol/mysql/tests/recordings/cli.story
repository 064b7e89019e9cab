LoggedIn app@shop mysql  #24
Query 'select 1' 8
  1 results, 1 rows, 0 affected
Query 'SELECT DATABASE()' 17
  1 results, 1 rows, 0 affected
Utility -
IdentityChanged app@mysql mysql  #24
  0 results, 0 rows, 0 affected
Query 'select nope' 11
  1 results, 0 rows, 0 affected, error 1054 42S22
Quit
