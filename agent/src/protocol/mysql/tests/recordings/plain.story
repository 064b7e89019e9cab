LoggedIn app@shop till  #43
Query 'SET AUTOCOMMIT = 0' 18
  1 results, 0 rows, 0 affected
Query 'select id, name from t' 22
  1 results, 3 rows, 0 affected
Query 'select nope from t' 18
  1 results, 0 rows, 0 affected, error 1054 42S22
Query 'insert into t values (4,\'d\'),(5,null)' 37
  1 results, 0 rows, 2 affected
Query 'delete from t where id>3' 24
  1 results, 0 rows, 2 affected
Query 'COMMIT' 6
  1 results, 0 rows, 0 affected
Query 'USE `mysql`' 11
IdentityChanged app@mysql till  #43
  1 results, 0 rows, 0 affected
Utility -
IdentityChanged app@shop till  #43
  0 results, 0 rows, 0 affected
Utility -
  0 results, 0 rows, 0 affected, error 1049 42000
Utility -
  0 results, 0 rows, 0 affected
Query 'load data local infile \'in.csv\' into table t fields terminat' 69
  1 results, 0 rows, 3 affected
Query 'delete from t where id>=10' 26
  1 results, 0 rows, 3 affected
Utility -
  0 results, 0 rows, 0 affected
Utility -
  0 results, 0 rows, 0 affected
Utility -
  0 results, 0 rows, 0 affected
Quit
