#include "query/procedures.h"

#include "tests/unit/query/query_rig.h"

static struct rig rig;

static void setup(void) {
    rig_open(&rig);
    for (int i = 0; i < 6; i++) {
        char tags[64];
        snprintf(tags, sizeof tags, "host=h%d,region=%s", i, i % 3 == 0 ? "eu" : "us");
        struct rig_field fields[] = {{"load", IMV_FLOAT, imv_float_cell(i), NULL}, {"n", IMV_INTEGER, 1, NULL}};
        rig_write(&rig, "cpu", tags, i, fields, 2);
    }
    struct rig_field field = {"free", IMV_INTEGER, 5, NULL};
    rig_write(&rig, "mem", "host=h1", 1, &field, 1);
    rig_settle(&rig, false);
}

static void teardown(void) { rig_close(&rig); }

/* Each procedure lists what is there, alone or among other clauses. */
Test(procedures, list_the_catalog, .init = setup, .fini = teardown) {
    static const struct {
        const char *text, *wanted;
    } cases[] = {
        {"CALL db.labels()", "[\"cpu\"]\n[\"mem\"]"},
        {"CALL db.labels", "[\"cpu\"]\n[\"mem\"]"},
        {"CALL DB.Labels() YIELD label AS l WHERE l STARTS WITH 'm' RETURN l + '!' AS x", "[\"mem!\"]"},
        {"CALL db.propertyKeys() YIELD propertyKey RETURN collect(propertyKey)",
         "[[\"host\",\"region\",\"load\",\"n\",\"free\"]]"},
        {"CALL imvdb.labels() YIELD *", "[\"cpu\",6,null]\n[\"mem\",1,null]"},
        {"CALL imvdb.tags('cpu')", "[\"host\",6,6]\n[\"region\",2,6]"},
        {"CALL imvdb.tagValues('cpu', 'region')", "[\"eu\",2]\n[\"us\",4]"},
        {"CALL imvdb.tagValues('cpu', 'none')", ""},
        {"CALL imvdb.tagValues('none', 'region')", ""},
        {"CALL imvdb.fields('cpu') YIELD field, type RETURN field, type", "[\"load\",\"float\"]\n[\"n\",\"integer\"]"},
        {"CALL db.labels() YIELD label CALL imvdb.tags(label) YIELD tag, values RETURN label, tag, values",
         "[\"cpu\",\"host\",6]\n[\"cpu\",\"region\",2]\n[\"mem\",\"host\",1]"},
        {"MATCH (m:mem) CALL imvdb.tagValues('cpu', 'region') YIELD value RETURN m.host, value",
         "[\"h1\",\"eu\"]\n[\"h1\",\"us\"]"},
        {"CALL dbms.components() YIELD name RETURN name", "[\"imvdb\"]"},
        {"CALL db.labels() YIELD label RETURN count(*) UNION CALL db.labels() YIELD label RETURN count(*)", "[2]"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) rig_expect(&rig, cases[i].text, cases[i].wanted);
    const char *all = rig_run(&rig, "CALL dbms.procedures() YIELD name RETURN collect(name)");
    for (size_t i = 0; imv_procedure_at(i) != NULL; i++) {
        cr_expect_not_null(strstr(all, imv_procedure_at(i)->function.name.data));
    }
}

/* Of many labels each property key is listed once, those of one label and those of all, in the order of the labels. */
Test(procedures, each_property_key_once, .init = setup, .fini = teardown) {
    for (int i = 0; i < 300; i++) {
        char label[16], tags[32], name[16];
        snprintf(label, sizeof label, "l%d", i);
        snprintf(tags, sizeof tags, "host=h,tag%d=x", i / 2);
        snprintf(name, sizeof name, "field%d", i);
        struct rig_field fields[] = {{name, IMV_INTEGER, 1, NULL}, {"n", IMV_INTEGER, 1, NULL}};
        rig_write(&rig, label, tags, i, fields, 2);
    }
    rig_settle(&rig, false);
    rig_expect(&rig, "CALL db.propertyKeys() YIELD propertyKey AS k RETURN count(k), count(DISTINCT k)", "[455,455]");
    rig_expect(&rig, "CALL db.propertyKeys() YIELD propertyKey AS k RETURN k SKIP 451",
               "[\"field297\"]\n[\"tag149\"]\n[\"field298\"]\n[\"field299\"]");
}

/* What is wrong with a call is said before anything runs. */
Test(procedures, mistakes_are_named, .init = setup, .fini = teardown) {
    rig_expect(&rig, "CALL db.label()", "ProcedureError/ProcedureNotFound");
    cr_expect_not_null(strstr(rig.error.message, "db.label"));
    rig_expect(&rig, "CALL imvdb.tags()", "SyntaxError/InvalidNumberOfArguments");
    rig_expect(&rig, "CALL imvdb.tags('cpu', 'x')", "SyntaxError/InvalidNumberOfArguments");
    rig_expect(&rig, "CALL imvdb.tags('cpu') YIELD nothing RETURN nothing", "SyntaxError/UndefinedVariable");
    rig_expect(&rig, "CALL imvdb.tags('cpu') YIELD tag, values AS tag RETURN tag", "SyntaxError/VariableAlreadyBound");
    rig_expect(&rig, "CALL imvdb.tags(5)", "TypeError/InvalidArgumentValue");
    rig_expect(&rig, "CALL db.labels() YIELD label", "[\"cpu\"]\n[\"mem\"]");
    rig_expect(&rig, "MATCH (h:cpu) CALL db.labels() YIELD label", "SyntaxError/UnexpectedSyntax");
    rig_expect(&rig, "CALL", "SyntaxError/UnexpectedSyntax");
}

/* A list that is too long for the statement's memory ends the statement. */
Test(procedures, keep_to_the_statement_s_memory, .init = setup, .fini = teardown) {
    for (int i = 0; i < 3000; i++) {
        char tags[64];
        snprintf(tags, sizeof tags, "host=a%d", i);
        struct rig_field field = {"load", IMV_FLOAT, 0, NULL};
        rig_write(&rig, "cpu", tags, i, &field, 1);
        if (i % 500 == 0) rig_settle(&rig, false);
    }
    rig_settle(&rig, false);
    rig_expect(&rig, "CALL imvdb.tagValues('cpu', 'host') YIELD value RETURN count(value)", "[3006]");
    rig.memory_bytes_max = 200 * 1000;
    rig_expect(&rig, "CALL imvdb.tagValues('cpu', 'host') YIELD value RETURN count(value)",
               "ResourceError/MemoryLimit");
}
