LoggedIn app@shop libmariadb  #26
Text 'SELECT c FROM sbtest1 WHERE id=?'
Prepare 'SELECT c FROM sbtest1 WHERE id=?' 32
  1 results, 0 rows, 0 affected
Execute stored 32
  1 results, 1 rows, 0 affected
Execute stored 32
  1 results, 1 rows, 0 affected
Quit
