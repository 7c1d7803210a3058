import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.StringReader;
import java.math.BigDecimal;
import java.net.URI;
import java.nio.charset.StandardCharsets;
import java.sql.*;
import java.util.Arrays;
import java.util.Properties;
import org.postgresql.PGConnection;
import org.postgresql.PGNotification;
import org.postgresql.copy.CopyManager;
import org.postgresql.util.PSQLException;
import org.postgresql.util.ServerErrorMessage;

/** pgjdbc: metadata, statements on both sides of the binary threshold, fetch sizes, batches, COPY, cancel. */
public class Transcript {
    static String url;
    static Properties login;

    static void section(String name) {
        System.out.println("\n=== " + name);
    }

    static Connection connect(String... properties) throws SQLException {
        Properties all = new Properties();
        all.putAll(login);
        for (int i = 0; i < properties.length; i += 2) all.put(properties[i], properties[i + 1]);
        return DriverManager.getConnection(url, all);
    }

    static String told(SQLException e) {
        StringBuilder out = new StringBuilder(e.getClass().getSimpleName() + " " + e.getSQLState() + " " + e.getMessage());
        if (e instanceof PSQLException && ((PSQLException) e).getServerErrorMessage() != null) {
            ServerErrorMessage m = ((PSQLException) e).getServerErrorMessage();
            out.append(" ").append(Arrays.asList(m.getSeverity(), m.getDetail(), m.getHint(), m.getPosition(), m.getWhere(), m.getSchema(),
                    m.getTable(), m.getColumn(), m.getDatatype(), m.getConstraint(), m.getFile(), m.getLine(), m.getRoutine(),
                    m.getInternalPosition(), m.getInternalQuery()));
        }
        for (SQLException next = e.getNextException(); next != null; next = next.getNextException()) out.append("; then ").append(next.getMessage());
        return out.toString();
    }

    static String value(ResultSet rows, int i) throws SQLException {
        Object value = rows.getObject(i);
        if (value instanceof byte[]) return Arrays.toString((byte[]) value);
        return value == null ? "null" : value.getClass().getSimpleName() + ":" + rows.getString(i);
    }

    static void print(ResultSet rows, boolean names) throws SQLException {
        ResultSetMetaData about = rows.getMetaData();
        StringBuilder head = new StringBuilder();
        for (int i = 1; i <= about.getColumnCount(); i++) {
            head.append(about.getColumnLabel(i)).append(' ').append(about.getColumnTypeName(i)).append(' ').append(about.getPrecision(i)).append(' ').append(about.getScale(i));
            if (names) head.append(' ').append(about.getTableName(i)).append(' ').append(about.isNullable(i)).append(' ').append(about.isAutoIncrement(i));
            head.append(" | ");
        }
        System.out.println(head);
        while (rows.next()) {
            StringBuilder row = new StringBuilder();
            for (int i = 1; i <= about.getColumnCount(); i++) row.append(value(rows, i)).append(" | ");
            System.out.println(row);
        }
    }

    static void attempt(Connection conn, String sql, Object... params) {
        System.out.println("> " + sql + " " + Arrays.deepToString(params));
        try (PreparedStatement statement = conn.prepareStatement(sql)) {
            for (int i = 0; i < params.length; i++) statement.setObject(i + 1, params[i]);
            if (statement.execute()) print(statement.getResultSet(), false);
            else System.out.println(statement.getUpdateCount());
        } catch (SQLException e) {
            System.out.println(told(e));
        }
    }

    interface Source {
        ResultSet get(DatabaseMetaData about) throws SQLException;
    }

    static void metadata(Connection conn) throws SQLException {
        DatabaseMetaData about = conn.getMetaData();
        System.out.println(about.getDatabaseProductName() + " " + about.getDatabaseProductVersion() + " " + about.getUserName() + " " + about.getMaxConnections()
                + " " + about.getSQLKeywords() + " " + about.supportsTransactionIsolationLevel(8) + " " + about.getDefaultTransactionIsolation());
        Source[] sources = {
            a -> a.getSchemas(), a -> a.getTables(null, null, "%", new String[] {"TABLE", "VIEW", "MATERIALIZED VIEW", "PARTITIONED TABLE"}),
            a -> a.getColumns(null, "public", "%", "%"), a -> a.getColumns(null, "office", "%", "%"), a -> a.getPrimaryKeys(null, null, "customer"), a -> a.getImportedKeys(null, "public", "purchase"),
            a -> a.getExportedKeys(null, "public", "customer"), a -> a.getIndexInfo(null, "public", "customer", false, true), a -> a.getTablePrivileges(null, "public", "customer"),
            a -> a.getColumnPrivileges(null, "public", "product", "title"), a -> a.getFunctions(null, "office", "%"), a -> a.getFunctionColumns(null, "office", "%", "%"),
            a -> a.getProcedures(null, "office", "%"), a -> a.getUDTs(null, "office", "%", null), a -> a.getBestRowIdentifier(null, "public", "customer", 0, true),
            a -> a.getVersionColumns(null, "public", "customer"), a -> a.getCatalogs(), a -> a.getTableTypes()};
        for (int i = 0; i < sources.length; i++) {
            System.out.println("-- metadata " + i);
            print(sources[i].get(about), false);
        }
        try (Statement statement = conn.createStatement(); ResultSet rows = statement.executeQuery("select * from customer c join purchase p on p.customer_id = c.id where p.id = 1")) {
            print(rows, true);
        }
    }

    static void reads(Connection conn) throws SQLException {
        for (int times = 0; times < 2; times++) {
            attempt(conn, "select * from customer where id = ?", 7);
            attempt(conn, "select * from customer where id = ?", 3L);
            attempt(conn, "select id, name from customer where id = any(?) order by id", conn.createArrayOf("int4", new Object[] {4, 5}));
            attempt(conn, "select name from customer where name = ?", "customer 9");
            attempt(conn, "select * from product where sku = ?", "sku-004");
            attempt(conn, "select id, at, note from purchase where customer_id = ? order by at desc limit 3", 18);
            attempt(conn, "select id, a_int2, a_int8, a_float4, a_float8, a_numeric, a_text, a_varchar, a_bpchar, a_name, a_char, a_bytea, a_bool from every_type where id = ?", 1);
            attempt(conn, "select id, a_date, a_time, a_timetz, a_timestamp, a_timestamptz, a_interval, a_uuid, a_jsonb, a_inet, a_money, an_oid, a_kind from every_type where id = ?", 1);
            attempt(conn, "select a_bit, a_varbit, an_int4_array, a_text_array, an_int4range, a_point, a_box, a_tsvector from every_type where id = ?", 1);
            attempt(conn, "select * from every_type where id = ?", 3);
            attempt(conn, "select count(*), sum(balance), avg(balance) from customer where id > ?", 10);
            attempt(conn, "select name from customer where balance = ?", new BigDecimal("3.00"));
            attempt(conn, "select name from customer where born = ?", Date.valueOf("1950-02-07"));
            attempt(conn, "select id from customer where created > ? order by id limit 2", Timestamp.valueOf("2024-03-01 00:00:00"));
            attempt(conn, "select what from office.ledger where id = ?", 3);
            attempt(conn, "select id from customer where id = ?", "x");
            attempt(conn, "select nothing from customer");
            attempt(conn, "select 1 / ?", 0);
            attempt(conn, "select id from customer where id = -1");
            attempt(conn, "insert into purchase values (90000, 99999, 'sku-001', 1, now(), null)");
            attempt(conn, "select office.fails()");
            attempt(conn, "select id from customer where id = 1; select what from office.ledger where id = 1");
            attempt(conn, "");
        }
        section("one statement many times");
        try (PreparedStatement statement = conn.prepareStatement("select id, name, balance, created, tags from customer where id = ?")) {
            for (int i = 0; i < 12; i++) {
                statement.setInt(1, i);
                try (ResultSet rows = statement.executeQuery()) {
                    print(rows, false);
                }
            }
            System.out.println(statement.getParameterMetaData().getParameterTypeName(1));
        }
    }

    static void transactions(Connection conn) throws SQLException {
        conn.setAutoCommit(false);
        try (Statement statement = conn.createStatement()) {
            statement.setFetchSize(7);
            int count = 0;
            try (ResultSet rows = statement.executeQuery("select id, name from customer order by id")) {
                while (rows.next()) count += rows.getInt(1);
            }
            System.out.println("fetched in parts " + count);
            try (ResultSet rows = statement.executeQuery("select 1 / (id - 20) from customer order by id")) {
                while (rows.next()) count++;
            } catch (SQLException e) {
                System.out.println(count + " " + told(e));
            }
        }
        conn.rollback();
        attempt(conn, "update customer set name = 'changed' where id = 20");
        attempt(conn, "select name from customer where id = 20");
        Savepoint savepoint = conn.setSavepoint("a");
        attempt(conn, "select 1 / 0");
        attempt(conn, "select 1");
        conn.rollback(savepoint);
        attempt(conn, "select name from customer where id = 20");
        conn.releaseSavepoint(savepoint);
        conn.rollback();
        attempt(conn, "select name from customer where id = 20");
        conn.commit();
        conn.setTransactionIsolation(Connection.TRANSACTION_SERIALIZABLE);
        attempt(conn, "select name from customer where id = 20");
        conn.commit();
        conn.setTransactionIsolation(Connection.TRANSACTION_READ_COMMITTED);
        conn.setReadOnly(true);
        attempt(conn, "select name from customer where id = 20");
        attempt(conn, "delete from customer where id = 20");
        conn.rollback();
        conn.setReadOnly(false);
        conn.setAutoCommit(true);
        section("updatable results, generated keys, batches");
        try (Statement statement = conn.createStatement(ResultSet.TYPE_SCROLL_INSENSITIVE, ResultSet.CONCUR_UPDATABLE);
                ResultSet rows = statement.executeQuery("select id, name from customer where id in (30, 31) order by id")) {
            rows.next();
            rows.updateString("name", "updated in place");
            rows.updateRow();
            rows.absolute(2);
            System.out.println(rows.getString(2) + rows.isLast());
        }
        attempt(conn, "select name from customer where id = 30");
        try (PreparedStatement statement = conn.prepareStatement("insert into office.ledger (what, amount) values (?, ?)", Statement.RETURN_GENERATED_KEYS)) {
            for (int i = 0; i < 5; i++) {
                statement.setString(1, "batch " + i);
                statement.setBigDecimal(2, new BigDecimal(i));
                statement.addBatch();
            }
            System.out.println(Arrays.toString(statement.executeBatch()));
            print(statement.getGeneratedKeys(), false);
        }
        try (Statement statement = conn.createStatement()) {
            statement.addBatch("insert into office.ledger (what) values ('in a batch')");
            statement.addBatch("insert into purchase values (90000, 99999, 'sku-001', 1, now(), null)");
            statement.addBatch("insert into office.ledger (what) values ('after it')");
            statement.executeBatch();
        } catch (BatchUpdateException e) {
            System.out.println(Arrays.toString(e.getUpdateCounts()) + told(e));
        }
        attempt(conn, "select what from office.ledger where id > 40 order by id");
        try (CallableStatement call = conn.prepareCall("{? = call office.add(?, ?)}")) {
            call.registerOutParameter(1, Types.INTEGER);
            call.setInt(2, 40);
            call.setInt(3, 2);
            call.execute();
            System.out.println(call.getInt(1));
        }
        attempt(conn, "call office.book(?, ?)", "called", new BigDecimal("1"));
    }

    static void copies(Connection conn) throws Exception {
        CopyManager copy = conn.unwrap(PGConnection.class).getCopyAPI();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        System.out.println(copy.copyOut("copy (select id, name from customer where id < 4 order by id) to stdout", out) + out.toString("UTF-8"));
        out.reset();
        System.out.println(copy.copyOut("copy customer to stdout (format binary)", out) + " " + out.size());
        System.out.println(copy.copyIn("copy office.ledger (what, amount) from stdin (format csv)", new StringReader("one,1\ntwo,2\n")));
        try {
            copy.copyIn("copy office.ledger (what, amount) from stdin", new ByteArrayInputStream("bad\n".getBytes(StandardCharsets.UTF_8)));
        } catch (SQLException e) {
            System.out.println(told(e));
        }
        attempt(conn, "select count(*) from office.ledger");
    }

    static void asynchronous(Connection conn) throws Exception {
        try (Statement statement = conn.createStatement()) {
            statement.execute("select office.shout('jdbc')");
            System.out.println(statement.getWarnings());
            statement.execute("listen channel");
            try (Connection other = connect(); Statement notifying = other.createStatement()) {
                notifying.execute("notify channel, 'from another'");
            }
            PGNotification[] heard = conn.unwrap(PGConnection.class).getNotifications(20000);
            System.out.println(heard[0].getName() + " " + heard[0].getParameter());
        }
        section("cancel");
        try (Statement statement = conn.createStatement()) {
            Thread canceler = new Thread(() -> {
                try {
                    Thread.sleep(300);
                    statement.cancel();
                } catch (Exception e) {
                    System.out.println(e);
                }
            });
            canceler.start();
            try {
                statement.execute("select pg_sleep(20)");
            } catch (SQLException e) {
                System.out.println(told(e));
            }
            canceler.join();
            statement.setQueryTimeout(1);
            try {
                statement.execute("select pg_sleep(20)");
            } catch (SQLException e) {
                System.out.println(told(e));
            }
        }
        attempt(conn, "select name from customer where id = 1");
    }

    static void refused(String what, String... properties) {
        try (Connection conn = connect(properties)) {
            System.out.println(what + ": connected");
        } catch (SQLException e) {
            System.out.println(what + ": " + told(e));
        }
    }

    public static void main(String[] args) throws Exception {
        URI uri = URI.create(args[0]);
        url = "jdbc:postgresql://" + uri.getHost() + ":" + uri.getPort() + uri.getPath();
        login = new Properties();
        login.put("user", uri.getUserInfo().split(":")[0]);
        login.put("password", uri.getUserInfo().split(":")[1]);
        // The driver sets the session's time zone to its own.
        java.util.TimeZone.setDefault(java.util.TimeZone.getTimeZone("UTC"));
        try (Connection conn = connect()) {
            section("metadata");
            metadata(conn);
            section("reads");
            reads(conn);
            section("transactions");
            transactions(conn);
            section("copy");
            copies(conn);
            section("notices, notifications");
            asynchronous(conn);
        }
        section("prepared at once, all binary");
        try (Connection conn = connect("prepareThreshold", "-1", "binaryTransfer", "true")) {
            reads(conn);
        }
        section("simple");
        try (Connection conn = connect("preferQueryMode", "simple")) {
            reads(conn);
        }
        section("statements that outlive changes of their table");
        try (Connection conn = connect("prepareThreshold", "1"); Statement statement = conn.createStatement()) {
            statement.execute("create table changing (a int primary key, b text)");
            statement.execute("insert into changing values (1, 'x')");
            for (String change : new String[] {"select 1", "alter table changing add c int default 5", "alter table changing alter b type varchar(9)"}) {
                statement.execute(change);
                for (int i = 0; i < 3; i++) attempt(conn, "select * from changing where a = ?", 1);
            }
            conn.setAutoCommit(false);
            attempt(conn, "select * from changing where a = ?", 1);
            statement.execute("alter table changing drop c");
            attempt(conn, "select * from changing where a = ?", 1);
            attempt(conn, "select * from changing where a = ?", 1);
            conn.rollback();
            conn.setAutoCommit(true);
            statement.execute("drop table changing");
        }
        section("autosave");
        try (Connection conn = connect("autosave", "always")) {
            conn.setAutoCommit(false);
            attempt(conn, "update customer set name = 'saved' where id = 40");
            attempt(conn, "select nonsense");
            attempt(conn, "select name from customer where id = 40");
            conn.commit();
            attempt(conn, "select name from customer where id = 40");
            conn.commit();
        }
        section("refused");
        refused("password", "password", "wrong");
        refused("user", "user", "nobody");
        refused("encrypted", "sslmode", "require");
        refused("options", "options", "-c nonsense=1");
        refused("read only", "readOnly", "true", "readOnlyMode", "always");
    }
}
