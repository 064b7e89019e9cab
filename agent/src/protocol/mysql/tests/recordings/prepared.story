LoggedIn app@shop till  #39
Query 'SET AUTOCOMMIT = 0' 18
  1 results, 0 rows, 0 affected
Text 'select id, name from t where id > ?'
Prepare 'select id, name from t where id > ?' 35
  1 results, 0 rows, 0 affected
Execute stored 35
  1 results, 2 rows, 0 affected
Execute stored 35
  1 results, 1 rows, 0 affected
Execute stored 35
  1 results, 0 rows, 0 affected
Fetch stored 35
  1 results, 2 rows, 0 affected
Fetch stored 35
  1 results, 1 rows, 0 affected
Utility -
  0 results, 0 rows, 0 affected
Text 'update t set name = ? where id = 1'
Prepare 'update t set name = ? where id = 1' 34
  1 results, 0 rows, 0 affected
Execute stored 34
  1 results, 0 rows, 1 affected
Text 'select nope nope nope'
Prepare 'select nope nope nope' 21
  1 results, 0 rows, 0 affected, error 1064 42000
Execute ?
  1 results, 0 rows, 0 affected, error 1243 HY000
Text 'select 42'
Prepare 'select 42' 9
  1 results, 0 rows, 0 affected
Execute stored 9
  1 results, 1 rows, 0 affected
Utility -
  0 results, 0 rows, 0 affected
Execute ?
  1 results, 0 rows, 0 affected, error 1243 HY000
Utility -
LoggedIn root@mysql abc  #39
  0 results, 0 rows, 0 affected
Utility -
LoggedIn app@shop   #39
  0 results, 0 rows, 0 affected
Query 'select user()' 13
  1 results, 1 rows, 0 affected
Quit
